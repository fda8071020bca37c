"""Runs Bazel from a test, on the checkout that the test was built from.

The inner Bazel has an output root of its own, inside the outer one's output base: it is kept
from run to run, and `bazel clean --expunge` removes it. Tests that use this are tagged `local`.
"""

import os
import shutil
import subprocess
import unittest

_BAZELS = ("bazelisk", "bazel")


def checkout():
    """Returns the root folder of the repository itself, not of the runfiles."""
    return os.path.dirname(os.path.realpath("WORKSPACE"))


class NestedBazel:
    """A Bazel on `workspace`, a folder with a WORKSPACE file. A context: leaving stops its server.

    Raises unittest.SkipTest where there is no Bazel on the PATH.
    """

    def __init__(self, workspace):
        found = [path for path in map(shutil.which, _BAZELS) if path]
        if not found:
            raise unittest.SkipTest("no bazelisk and no bazel on the PATH")
        self._workspace = workspace
        here = os.getcwd()
        output_base = here.split("/execroot/")[0] if "/execroot/" in here else None
        if output_base and os.access(output_base, os.W_OK):
            root = os.path.join(output_base, "residual_nested")
        else:
            root = os.path.join(os.environ["TEST_TMPDIR"], "residual_nested")
        self._command = [found[0], "--output_user_root=" + root, "--max_idle_secs=60"]
        # Not the variables of the test (TEST_*, RUNFILES_*, XML_OUTPUT_FILE): they change what
        # programs that the inner Bazel runs do.
        keep = ("PATH", "CUDA_HOME", "CUDA_PATH", "LD_LIBRARY_PATH")
        self._env = {name: os.environ[name] for name in keep if name in os.environ}
        self._env["HOME"] = root
        os.makedirs(root, exist_ok=True)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.run("shutdown")

    def run(self, *args):
        """Returns what the command writes to stdout; fails with its stderr when it fails."""
        done = subprocess.run(
            self._command + list(args), cwd=self._workspace, env=self._env, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        if done.returncode:
            raise AssertionError("bazel %s: exit code %d\n%s%s" % (
                " ".join(args), done.returncode, done.stdout[-4000:], done.stderr[-8000:]))
        return done.stdout
