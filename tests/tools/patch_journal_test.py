"""Sweeps of //tools:patch that are killed and gone on with."""

import unittest

from tests.harness import run_cases
from tests.tools import sweeps


class PatchJournalTest(sweeps.SweepTest, unittest.TestCase):
    launcher = []


if __name__ == "__main__":
    run_cases.main()
