"""Tests of run_cases, on a program of its own."""

import os
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ET

from tests.harness import run_cases

_PROGRAM = """
import unittest
from tests.harness import run_cases

class Mixed(unittest.TestCase):
    def test_a_passes(self):
        pass

    def test_b_fails(self):
        self.assertEqual(1, 2, "bell \\a & <tag>")

    def test_c_raises(self):
        raise OSError("disk")

    def test_d_skips(self):
        self.skipTest("no GPU")

    def test_e_subtests(self):
        for i in range(3):
            with self.subTest(i=i):
                self.assertNotEqual(i, 1)

class BrokenSetUp(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise OSError("nothing here")

    def test_never_runs(self):
        pass

class SkippedClass(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise unittest.SkipTest("no Bazel")

    def test_never_runs(self):
        pass

if __name__ == "__main__":
    run_cases.main()
"""


def _run(text, **env):
    """Runs a program; returns its exit code and {case: outcome} from its test.xml."""
    with tempfile.TemporaryDirectory() as folder:
        program, xml = os.path.join(folder, "program.py"), os.path.join(folder, "test.xml")
        with open(program, "w", encoding="utf-8") as f:
            f.write(text)
        root = os.path.dirname(os.path.dirname(os.path.dirname(run_cases.__file__)))
        env = dict(os.environ, PYTHONPATH=root, XML_OUTPUT_FILE=xml, **env)
        env.setdefault("TESTBRIDGE_TEST_ONLY", "")
        done = subprocess.run(
            [sys.executable, program], env=env, capture_output=True, check=False)
        cases = {}
        for case in ET.parse(xml).getroot().iter("testcase"):
            name = case.get("name").replace("__main__.", "")
            cases[name] = case[0].tag if len(case) else "passed"
        return done.returncode, cases


class RunCasesTest(unittest.TestCase):

    def test_every_outcome(self):
        self.assertEqual(_run(_PROGRAM), (1, {
            "Mixed.test_a_passes": "passed",
            "Mixed.test_b_fails": "failure",
            "Mixed.test_c_raises": "failure",
            "Mixed.test_d_skips": "skipped",
            "Mixed.test_e_subtests": "failure",
            "setUpClass (BrokenSetUp)": "failure",
            "setUpClass (SkippedClass)": "skipped",
        }))

    def test_all_passing(self):
        self.assertEqual(
            _run(_PROGRAM, TESTBRIDGE_TEST_ONLY="Mixed.test_a_passes"),
            (0, {"Mixed.test_a_passes": "passed"}))

    def test_no_cases_is_a_failure(self):
        text = "from tests.harness import run_cases\nrun_cases.main()\n"
        self.assertEqual(_run(text), (1, {}))


if __name__ == "__main__":
    run_cases.main()
