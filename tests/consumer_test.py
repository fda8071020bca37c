"""Another workspace depends on single targets of this one, with a few lines of WORKSPACE."""

import math
import os
import re
import unittest

from tests.harness import nested_bazel
from tests.harness import run_cases


class ConsumerTest(unittest.TestCase):

    def test_the_readme_shows_this_workspace(self):
        root = nested_bazel.checkout()

        def read(*path):
            with open(os.path.join(root, *path), encoding="utf-8") as f:
                return f.read()

        shown = re.findall(r"```python\n(.*?)```", read("README.md"), re.DOTALL)
        workspace = [block for block in shown if "residual_dependencies()" in block]
        build = [block for block in shown if "cc_binary(" in block]
        self.assertEqual((len(workspace), len(build)), (1, 1))
        self.assertIn(build[0], read("tests", "consumer", "BUILD"))
        # Where the repository comes from is a matter of the reader's; what follows is not.
        load = workspace[0][workspace[0].index('load("@residual'):]
        self.assertIn(load, read("tests", "consumer", "WORKSPACE"))

    def test_builds_and_runs(self):
        workspace = os.path.join(nested_bazel.checkout(), "tests", "consumer")
        with nested_bazel.NestedBazel(workspace) as bazel:
            out = bazel.run("run", "--symlink_prefix=/", "--jobs=2", "//:app")
        total = sum(math.exp(x) for x in (1, 2, 3))
        self.assertEqual(out.split(), ["%.6f" % (math.exp(x) / total) for x in (1, 2, 3)])


if __name__ == "__main__":
    run_cases.main()
