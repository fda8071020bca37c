"""Tests of //tools:hippo as a user runs it."""

import math
import os
import struct
import tempfile
import unittest

from tests.harness import run_cases
from tests.tools import tools


def _path(name):
    return os.path.join(tempfile.mkdtemp(dir=os.environ["TEST_TMPDIR"]), name)


def _wav(samples, tag=1):
    data = struct.pack("<%dh" % len(samples), *samples)
    chunks = (b"WAVEfmt " + struct.pack("<IHHIIHH", 16, tag, 1, 8000, 16000, 2, 16) + b"data" +
              struct.pack("<I", len(data)) + data)
    return tools.write("a.wav", b"RIFF" + struct.pack("<I", len(chunks)) + chunks)


class HippoTest(unittest.TestCase, tools.ToolTest):

    def test_common(self):
        self.assert_common("hippo")

    def test_matrices(self):
        for measure in ("legs", "legt", "fourier", "chebyshev", "random"):
            out = _path("a.safetensors")
            done = tools.run("hippo", "--measure=" + measure, "--n=5", "--out=" + out)
            self.assertEqual((done.code, done.err), (0, ""))
            got = tools.read_safetensors(out)
            self.assertEqual(got["A"][0], [5, 5])
            self.assertEqual(got["B"][0], [5])
            if measure == "legs":
                for n in range(5):
                    self.assertAlmostEqual(got["B"][1][n], math.sqrt(2 * n + 1), 14)
                    for k in range(5):
                        want = -(n + 1) if n == k else 0
                        if n > k:
                            want = -math.sqrt((2 * n + 1) * (2 * k + 1))
                        self.assertAlmostEqual(got["A"][1][5 * n + k], want, 13)
        out = _path("a.safetensors")
        self.assertEqual(tools.run("hippo", "--measure=legs", "--n=1", "--out=" + out).code, 0)
        self.assertEqual(tools.read_safetensors(out)["A"], ([1, 1], (-1,)))

    def test_signals_come_back(self):
        wave = [math.sin(i / 30.0) for i in range(400)]
        paths = [_wav([round(20000 * x) for x in wave]),
                 tools.write("a.csv", "volts\n" + "\n".join(map(repr, wave)))]
        for path, scale in zip(paths, (20000 / 32768, 1)):
            out = _path("a.safetensors")
            done = tools.run("hippo", "--measure=legs", "--n=24", "--signal=" + path,
                             "--out=" + out)
            self.assertEqual((done.code, done.err), (0, ""))
            got = tools.read_safetensors(out)
            self.assertEqual((got["signal"][0], got["state"][0]), ([400], [24]))
            for want, signal, recalled in zip(wave, got["signal"][1], got["reconstruction"][1]):
                self.assertAlmostEqual(signal, scale * want, 4)
                self.assertLess(abs(recalled - signal), 0.06)

    def test_a_page_and_json(self):
        page = _path("a.html")
        done = tools.run("hippo", "--measure=legt", "--n=16", "--html=" + page, "--json")
        self.assertEqual((done.code, done.err), (0, ""))
        got = done.json()
        self.assertEqual((got["measure"], got["n"], got["samples"]), ("legt", 16, 1000))
        self.assertEqual(set(got["errors_by_n"]),
                         {"legs", "legt", "chebyshev", "fourier", "random"})
        errors = {e["n"]: e["error"] for e in got["errors_by_n"]["legt"]}
        self.assertEqual(got["error"], errors[16])
        self.assertLess(errors[64], errors[4] / 2)
        self.assertEqual(got["errors_over_time"][-1]["at"], 1000)
        with open(page, encoding="utf-8") as f:
            text = f.read()
        self.assertIn("Legendre, a window", text)
        self.assertIn("Content-Security-Policy", text)
        again = tools.run("hippo", "--measure=legt", "--n=16", "--json", "--threads=1").json()
        self.assertEqual(again["errors_by_n"], got["errors_by_n"])

    def test_what_is_wrong_is_named(self):
        def fails(code, *args):
            *flags, part = args
            self.assert_fails(tools.run("hippo", *flags), code, part)

        out = "--out=" + _path("a.safetensors")
        fails(2, "--measure=lagt", out,
              "unknown measure 'lagt', expected one of legs, legt, fourier, chebyshev, random")
        fails(2, "--measure=legs", "--n=0", out, "--n")
        fails(2, "--measure=legs", "nothing to do: give --out, --html or --json")
        fails(2, out, "--measure")
        legs = "--measure=legs"
        fails(1, legs, out, "--signal=/no/such.csv", "/no/such.csv")
        fails(1, legs, out, "--signal=" + tools.write("empty.csv", ""), "empty.csv: no samples")
        fails(1, legs, out, "--signal=" + _wav([]), "a.wav: no samples")
        fails(1, legs, out, "--signal=" + _wav([1], tag=6), "wav format 6 of 16 bits, expected PCM")
        fails(1, legs, out, "--signal=" + tools.write("a.flac", "fLaC"), "expected a name ending in")
        fails(1, legs, "--out=/no/such/folder/a.safetensors", "/no/such/folder")


if __name__ == "__main__":
    run_cases.main()
