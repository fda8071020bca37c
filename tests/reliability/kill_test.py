"""At least 50 kills; //tests/reliability:kills makes as many as one likes."""

import os
import tempfile
import unittest

from tests.harness import run_cases
from tests.reliability import kills


class KillTest(unittest.TestCase):

    def test_sixty_kills(self):
        with tempfile.TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR")) as folder:
            tally = kills.run(60, folder)
        print(tally)
        self.assertGreaterEqual(tally.kills, 50)
        self.assertGreaterEqual(tally.in_save, tally.kills // 6)
        self.assertGreaterEqual(tally.runs, 1)


if __name__ == "__main__":
    run_cases.main()
