"""Another workspace depends on single targets of this one, with a few lines of WORKSPACE."""

import math
import os
import unittest

from tests.harness import nested_bazel
from tests.harness import run_cases


class ConsumerTest(unittest.TestCase):

    def test_builds_and_runs(self):
        workspace = os.path.join(nested_bazel.checkout(), "tests", "consumer")
        with nested_bazel.NestedBazel(workspace) as bazel:
            out = bazel.run("run", "--symlink_prefix=/", "--jobs=2", "//:app")
        total = sum(math.exp(x) for x in (1, 2, 3))
        self.assertEqual(out.split(), ["%.6f" % (math.exp(x) / total) for x in (1, 2, 3)])


if __name__ == "__main__":
    run_cases.main()
