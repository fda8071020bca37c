"""The code of interpretability.md: its C++ is that of interpretability_test.cc, its shell runs."""

import os
import re
import stat
import subprocess
import tempfile
import unittest

from tests.harness import run_cases

_PAGE = os.path.join("docs", "interpretability.md")


def _blocks(language):
    with open(_PAGE, encoding="utf-8") as f:
        return re.findall(r"^```%s\n(.*?)^```" % language, f.read(), re.DOTALL | re.MULTILINE)


def _lines(code):
    return [line.strip() for line in code.splitlines() if line.strip()]


class SnippetsTest(unittest.TestCase):

    def test_the_cpp_is_compiled(self):
        with open(os.path.join("docs", "interpretability_test.cc"), encoding="utf-8") as f:
            compiled = "\n" + "\n".join(_lines(f.read())) + "\n"
        blocks = _blocks("cpp")
        self.assertGreaterEqual(len(blocks), 5)
        for block in blocks:
            self.assertIn("\n" + "\n".join(_lines(block)) + "\n", compiled)

    def test_the_shell_runs(self):
        # ./bazelw run //tools:NAME -- ARGUMENTS, as the reader has it, runs the tool that was built.
        with tempfile.TemporaryDirectory(dir=os.environ["TEST_TMPDIR"]) as folder:
            wrapper = os.path.join(folder, "bazelw")
            with open(wrapper, "w", encoding="utf-8") as f:
                f.write('#!/bin/sh\ntool="${2#//tools:}"; shift 3\nexec "%s/$tool" "$@"\n' %
                        os.path.abspath("tools"))
            os.chmod(wrapper, os.stat(wrapper).st_mode | stat.S_IXUSR)
            env = dict(os.environ, MODEL=os.path.abspath("interp/testdata/trained_induction"))
            blocks = _blocks("sh")
            self.assertGreaterEqual(len(blocks), 4)
            for block in blocks:
                with self.subTest(block=block):
                    done = subprocess.run(["sh", "-e", "-c", block], cwd=folder, env=env,
                                          capture_output=True, check=False)
                    self.assertEqual(done.returncode, 0, done.stderr.decode())


if __name__ == "__main__":
    run_cases.main()
