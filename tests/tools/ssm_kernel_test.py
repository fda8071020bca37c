"""Tests of //tools:ssm_kernel as a user runs it."""

import cmath
import math
import os
import tempfile
import unittest

from tests.harness import run_cases
from tests.tools import tools


def _path():
    return os.path.join(tempfile.mkdtemp(dir=os.environ["TEST_TMPDIR"]), "k.safetensors")


def _flat(numbers):
    return [part for z in numbers for part in (z.real, z.imag)]


A = [-0.5 + 2j, -0.1 - 1j, -1 + 0j]
B = [1 + 0j, 0.5 - 1j, 2j]
C = [[1j, 1 + 1j, -0.5 + 0j], [0.3 + 0j, -2 + 1j, 1 + 0j]]
DT = [0.1, 0.5]
S4D = {"A": ([3, 2], _flat(A)), "B": ([3, 2], _flat(B)), "C": ([2, 3, 2], _flat(C[0] + C[1])),
       "dt": ([2], DT)}


def _s4(**changes):
    """Diagonal plus low rank with P and Q, of which Q is zero: a diagonal system."""
    tensors = {"Lambda": S4D["A"], "B": S4D["B"], "C": S4D["C"], "dt": S4D["dt"],
               "P": ([3, 2], [1] * 6), "Q": ([3, 2], [0] * 6)}
    tensors.update(changes)
    return {name: tensor for name, tensor in tensors.items() if tensor}


class SsmKernelTest(unittest.TestCase, tools.ToolTest):

    def kernel(self, *args):
        out = _path()
        done = tools.run("ssm_kernel", "--out=" + out, *args)
        self.assertEqual((done.code, done.err), (0, ""))
        shape, values = tools.read_safetensors(out)["K"]
        return [values[h * shape[1]:(h + 1) * shape[1]] for h in range(shape[0])]

    def expect(self, got, discretization, pairs, length):
        self.assertEqual([len(row) for row in got], [length] * 2)
        for h, dt in enumerate(DT):
            for l in range(length):
                want = 0
                for a, b, c in zip(A, B, C[h]):
                    if discretization == "zoh":
                        z, w = cmath.exp(dt * a), (cmath.exp(dt * a) - 1) / a
                    else:
                        z, w = (1 + dt * a / 2) / (1 - dt * a / 2), dt / (1 - dt * a / 2)
                    want += (2 if pairs else 1) * (c * b * w * z**l).real
                self.assertAlmostEqual(got[h][l], want, 10)

    def test_common(self):
        self.assert_common("ssm_kernel")

    def test_from_parameters(self):
        s4d = "--params=" + tools.write_safetensors(S4D)
        for discretization in ("zoh", "bilinear"):
            got = self.kernel("--kind=s4d", "--discretization=" + discretization, "--length=17",
                              s4d)
            self.expect(got, discretization, True, 17)
        self.expect(self.kernel("--kind=s4d", "--length=5", s4d, "--pairs=false"), "zoh", False, 5)
        self.assertEqual(self.kernel("--kind=s4d", "--length=0", s4d), [(), ()])
        for p in ([3, 2], [1, 3, 2]):
            s4 = "--params=" + tools.write_safetensors(_s4(P=(p, [1] * 6), Q=(p, [0] * 6)))
            self.expect(self.kernel("--kind=s4", "--length=17", s4), "bilinear", False, 17)
        own = {name: ([2, 3, 2], [1] * 6 + [0.5] * 6) for name in ("P", "Q")}
        own["Lambda"] = ([2, 3, 2], 2 * _flat(A))
        each = self.kernel("--kind=s4", "--length=9",
                           "--params=" + tools.write_safetensors(_s4(**own)))
        for h in range(2):  # as the channel by itself
            low = ([3, 2], [1 - h / 2] * 6)
            alone = _s4(P=low, Q=low, C=([1, 3, 2], _flat(C[h])), dt=([1], [DT[h]]))
            got = self.kernel("--kind=s4", "--length=9",
                              "--params=" + tools.write_safetensors(alone))
            self.assertEqual(got[0], each[h])
        self.expect(self.kernel("--kind=s4", "--length=6", s4, "--pairs=true"), "bilinear", True, 6)

    def test_from_an_init(self):
        for kind, inits in (("s4d", ("lin", "inv", "quad", "real", "legs", "random")),
                            ("s4", ("legs", "legt"))):
            for init in inits:
                got = self.kernel("--kind=" + kind, "--init=" + init, "--n=8", "--dt=0.01,0.1,0.2",
                                  "--length=33", "--seed=5")
                self.assertEqual([len(row) for row in got], [33] * 3)
                self.assertGreater(max(map(abs, got[0])), 0)
                self.assertTrue(all(math.isfinite(x) for row in got for x in row))
                other = self.kernel("--kind=" + kind, "--init=" + init, "--n=8", "--dt=0.01",
                                    "--length=33", "--seed=6")
                self.assertNotEqual(got[0], other[0])

    def test_json(self):
        out = _path()
        done = tools.run("ssm_kernel", "--kind=s4d", "--init=lin", "--n=4", "--dt=0.1",
                         "--length=7", "--out=" + out, "--json")
        got = done.json()
        self.assertEqual((got["kind"], got["shape"], got["out"]), ("s4d", [1, 7], out))
        self.assertGreaterEqual(got["seconds"], 0)

    def test_what_is_wrong_is_named(self):
        def fails(code, *args):
            *flags, part = args
            flags = ["--length=4", "--out=" + _path()] + flags
            self.assert_fails(tools.run("ssm_kernel", *flags), code, part)

        def bad(kind, tensors, part):
            fails(1, "--kind=" + kind, "--params=" + tools.write_safetensors(tensors), part)

        fails(2, "--kind=s5", "--init=lin", "expected one of s4, s4d")
        fails(2, "--kind=s4d", "give either --params, or --init")
        fails(2, "--kind=s4d", "--init=lin", "--init needs --dt")
        fails(2, "--kind=s4d", "--init=lni", "--dt=1", "unknown init 'lni', expected one of lin")
        fails(2, "--kind=s4", "--init=lin", "--dt=1", "expected legs or legt")
        fails(2, "--kind=s4d", "--init=lin", "--dt=0.1,-1", "'-1' is no step")
        fails(2, "--kind=s4d", "--init=lin", "--n=5", "--dt=1", "--n is 5, expected an even number")
        fails(2, "--kind=s4", "--init=legs", "--dt=1", "--discretization=zoh", "bilinear")
        fails(1, "--kind=s4d", "--params=/no/such.safetensors", "/no/such.safetensors")
        bad("s4d", {"A": S4D["A"]}, "no tensor 'dt'")
        bad("s4d", dict(S4D, dt=([2], [0.1, 0])), "'dt' has a step of 0, expected one > 0")
        bad("s4d", dict(S4D, dt=([2, 1], DT)), "'dt' is [2, 1], expected [H]")
        bad("s4d", dict(S4D, A=([6], _flat(A))), "'A' is [6], expected [N, 2] or [2, N, 2]")
        bad("s4d", dict(S4D, B=([2, 3], [0] * 6)), "'B' is [2, 3], expected [3, 2] or [2, 3, 2]")
        bad("s4d", dict(S4D, C=([3, 2, 2], [0] * 12)), "'C' is [3, 2, 2]")
        bad("s4", S4D, "no tensor 'Lambda'")
        bad("s4", _s4(P=None), "no tensor 'P'")
        bad("s4", _s4(Q=([2, 2], [0] * 4)), "'Q' is [2, 2], expected [3, 2]")
        bad("s4", _s4(Q=([2, 3, 2], [0] * 12)), "'P' has rank 1, 'Q' 2")


if __name__ == "__main__":
    run_cases.main()
