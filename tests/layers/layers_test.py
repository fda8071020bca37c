"""The structure that docs/design.md promises, held by reading the sources.

tools -> interp -> models -> ops -> tensor: arrows point down, in #include lines and in BUILD files
alike (Bazel lets a file include what a dependency of a dependency offers). Read as text, not by a
query of a second Bazel: a second instead of half a minute, and the message names the line.
"""

import ast
import collections
import os
import re
import unittest

from tests.harness import nested_bazel
from tests.harness import run_cases

LAYERS = ("tensor", "ops", "models", "interp", "tools")  # each may use itself and what is before it
NO_ARCHITECTURE = ("nn", "stream", "train", "text", "generate", "data")  # what interp sees of models
MAX_FILE, MAX_PACKAGE, MAX_TOOL = 600, 1500, 300  # lines of code, without tests

# An op's header is its contract alone: one that names another op's needs a reason.
OPS_IN_HEADERS = {
    ("ops/matmul", "ops/elementwise"),  # the activation of the epilogue
    ("ops/gemm", "ops/elementwise"),
    ("ops/gemm", "ops/gemm/kernels"),  # its own, in a private header
    ("ops/ssm_recurrence", "ops/ssm_kernel"),  # the same systems, in another form
}

_INCLUDE = re.compile(r'^\s*#\s*include "([^"]+)"', re.MULTILINE)
_LABEL = re.compile(r"^(?:@residual)?//([\w/.-]+)")


def is_test(path):
    """Tests, benchmarks and folders of test-only code."""
    stem = os.path.splitext(os.path.basename(path))[0]
    return stem.endswith(("_test", "_benchmark", "_fuzz")) or "/testing/" in path


def lines_of_code(text):
    """Lines that are neither empty nor only a comment: to explain more must cost nothing."""
    return sum(1 for line in map(str.strip, text.splitlines()) if line and line[:2] != "//")


def labels(text, path="BUILD"):
    """The packages that a BUILD or .bzl file names, but for who may see it."""
    def strings(node):
        if isinstance(node, ast.keyword) and node.arg in ("visibility", "default_visibility"):
            return
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "package_group":
            return
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        for child in ast.iter_child_nodes(node):
            yield from strings(child)

    found = (_LABEL.match(value) for value in strings(ast.parse(text, path)))
    return [match.group(1).rstrip("/") for match in found if match]


def may_use(user, used):
    """Whether a file of layer `user` may name something under the top-level folder `used`."""
    if used == "tests":
        return user == "tests"
    if user == "tests" or used not in LAYERS:
        return True
    return LAYERS.index(used) <= LAYERS.index(user)


class Tree:
    """The text of every source of ours, by its path."""

    def __init__(self, root):
        self.files = {}
        for top in LAYERS + ("tests",):
            for folder, folders, names in os.walk(os.path.join(root, top)):
                folders[:] = [n for n in folders if not n.startswith((".", "bazel-", "__"))]
                if os.path.relpath(folder, root) == "tests/consumer":
                    continue  # another workspace
                for name in names:
                    if name == "BUILD" or name.endswith((".h", ".cc", ".cu", ".bzl")):
                        path = os.path.join(folder, name)
                        with open(path, encoding="utf-8") as f:
                            self.files[os.path.relpath(path, root)] = f.read()
        self.packages = {os.path.dirname(p) for p in self.files if p.endswith("/BUILD")}

    def code(self):
        return {p: t for p, t in self.files.items() if p.endswith((".h", ".cc", ".cu"))}

    def package(self, path):
        folder = os.path.dirname(path)
        while folder and folder not in self.packages:
            folder = os.path.dirname(folder)
        return folder

    def uses(self):
        """(file, what it names): headers by path, packages by name."""
        for path, text in self.files.items():
            if path.endswith((".h", ".cc", ".cu")):
                for header in _INCLUDE.findall(text):
                    yield path, header
            else:
                for package in labels(text, path):
                    yield path, package


class LayersTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.tree = Tree(nested_bazel.checkout())
        assert len(cls.tree.files) > 100, "this does not look like the checkout"

    def expect_none(self, wrong, rule):
        if wrong:
            self.fail("%s:\n  %s" % (rule, "\n  ".join(sorted(wrong))))

    def test_arrows_point_down(self):
        wrong = [
            "%s names %s" % (path, used) for path, used in self.tree.uses()
            if not may_use(path.split("/")[0], used.split("/")[0])
        ]
        self.expect_none(wrong, "tools -> interp -> models -> ops -> tensor; nothing uses tests")

    def test_interp_knows_no_architecture(self):
        wrong = []
        for path, used in self.tree.uses():
            parts = used.split("/")
            if not path.startswith("interp/") or is_test(path) or parts[0] != "models":
                continue
            if path.endswith("/BUILD"):
                continue  # its tests are declared in it too; the includes say who uses what
            if parts[1] not in NO_ARCHITECTURE:
                wrong.append("%s names %s" % (path, used))
        self.expect_none(wrong, "interp sees models/{%s} only" % ",".join(NO_ARCHITECTURE))

    def test_an_op_is_a_contract_of_its_own(self):
        wrong = []
        for path, used in self.tree.uses():
            mine, other = os.path.dirname(path), os.path.dirname(used)
            if (path.startswith("ops/") and path.endswith(".h") and used.startswith("ops/") and
                    mine != other and (mine, other) not in OPS_IN_HEADERS and
                    other != "ops/simd"):
                wrong.append("%s includes %s" % (path, used))
        self.expect_none(wrong, "an op uses other ops in its .cc files only")

    def test_sizes(self):
        package_lines, wrong = collections.Counter(), []
        for path, text in self.tree.code().items():
            if is_test(path) or path.startswith("tests/"):
                continue
            lines, package = lines_of_code(text), self.tree.package(path)
            # A file of tools/ is a tool; they share a package for their labels alone.
            most = MAX_TOOL if package == "tools" else MAX_FILE
            if lines > most:
                wrong.append("%s has %d lines of at most %d" % (path, lines, most))
            if package != "tools":
                package_lines[package] += lines
        for package, lines in package_lines.items():
            tool = package.startswith("tools/") and package != "tools/cli"
            most = MAX_TOOL if tool else MAX_PACKAGE
            if lines > most:
                wrong.append("%s/ has %d lines of at most %d" % (package, lines, most))
        self.expect_none(wrong, "a file or package with more than one idea in it")

    def test_headers_open_with_their_contract(self):
        wrong = [
            path for path, text in self.tree.code().items()
            if path.endswith(".h") and not text.startswith("// ")
        ]
        self.expect_none(wrong, "a header begins with a comment that says what it is for")

    def test_every_package_has_tests_beside_its_code(self):
        tested, code = set(), set()
        for path in self.tree.files:
            package = self.tree.package(path)
            if path.endswith("_test.cc"):
                tested.add(package)
            elif path.endswith(".cc") and not is_test(path) and not path.startswith("tests/"):
                code.add(package)
        # What is only a main() is tested from the outside, in tests/.
        for path, text in self.tree.code().items():
            if path.startswith("tools/") and re.search(r"^int main\(", text, re.MULTILINE):
                tested.add(self.tree.package(path))
        self.expect_none(code - tested, "packages without a test")

    def test_every_header_is_reached_from_a_test_beside_it(self):
        code, wrong = self.tree.code(), []
        for package in self.tree.packages:
            beside = {p for p in code if self.tree.package(p) == package}
            todo, reached = [p for p in beside if p.endswith("_test.cc")], set()
            while todo:
                path = todo.pop()
                if path in reached:
                    continue
                reached.add(path)
                todo += [used for used in _INCLUDE.findall(code[path]) if used in beside]
                if path.endswith(".h"):  # what implements it, and what that uses
                    todo += [
                        p for p in beside
                        if p.endswith((".cc", ".cu")) and (
                            p.startswith(path[:-2]) or path in _INCLUDE.findall(code[p]))
                    ]
            wrong += [
                p for p in beside - reached if p.endswith(".h") and not is_test(p) and
                # Included by the kernels of other packages, once for each target.
                not p.endswith("-inl.h") and not p.startswith("tests/")
            ]
        self.expect_none(wrong, "headers that no test beside them includes")


class RulesTest(unittest.TestCase):
    """The rules can fail."""

    def test_may_use(self):
        self.assertTrue(may_use("tools", "tensor"))
        self.assertTrue(may_use("ops", "ops"))
        self.assertTrue(may_use("tests", "tools"))
        self.assertTrue(may_use("tensor", "third_party"))
        self.assertFalse(may_use("tensor", "ops"))
        self.assertFalse(may_use("models", "interp"))
        self.assertFalse(may_use("interp", "tools"))
        self.assertFalse(may_use("tools", "tests"))

    def test_labels(self):
        text = """
cc_library(
    name = "x",
    visibility = ["//tools:__subpackages__"],
    deps = ["//ops/softmax", "@residual//tensor/core:tensor", ":y", "@com_google_absl//absl"],
)
package_group(name = "g", packages = ["//tools/..."])
"""
        self.assertEqual(labels(text), ["ops/softmax", "tensor/core"])

    def test_lines_of_code(self):
        self.assertEqual(lines_of_code("// a\n\nint x;  // b\n  // c\nint y;\n"), 2)

    def test_is_test(self):
        for path in ("a/b_test.cc", "a/b_benchmark.cc", "interp/testing/golden.h"):
            self.assertTrue(is_test(path))
        self.assertFalse(is_test("a/testing.cc"))


if __name__ == "__main__":
    run_cases.main()
