"""Tests of //tools:heads as a user runs it."""

import os
import tempfile
import unittest

from tests.harness import run_cases
from tests.tools import tools


class HeadsTest(unittest.TestCase, tools.ToolTest):

    def run_tool(self, *args, model="tl_gpt2"):
        out = os.path.join(tempfile.mkdtemp(dir=os.environ["TEST_TMPDIR"]), "out.safetensors")
        return tools.run("heads", "--model=" + tools.golden(model), "--out=" + out, *args), out

    def test_common(self):
        self.assert_common("heads")

    def test_the_reference(self):
        for model in ("tl_gpt2", "tl_attn_only"):
            folder = tools.golden(model)
            want = tools.read_safetensors(os.path.join(folder, "analyses.safetensors"))
            done, out = self.run_tool("--tokens=" + os.path.join(folder, "inputs.safetensors"),
                                      "--input=repeated", model=model)
            self.assertEqual((done.code, done.err), (0, ""))
            got = tools.read_safetensors(out)
            pairs = [("induction_stripe", "raw.induction_stripe", 1e-5)]
            for kind in ("previous_token", "duplicate_token", "induction"):
                # The reference rounds "abs" to three decimals.
                pairs += [(kind, "raw.detect.%s.mul" % kind, 1e-5),
                          (kind + ".abs", "raw.detect.%s.abs" % kind, 1.1e-3)]
            for ours, theirs, delta in pairs:
                self.assertEqual(got[ours][0], want[theirs][0])
                for a, b in zip(got[ours][1], want[theirs][1]):
                    self.assertAlmostEqual(a, b, delta=delta, msg=ours)
            for name in ("entropy", "mean_distance", "first_token", "current_token"):
                self.assertTrue(all(x > 0 for x in got["pattern." + name][1]))

    def test_state_spaces(self):
        for model, unit in (("mamba_auto", "C"), ("mamba2_tiny", "H")):
            done, out = self.run_tool("--json", "--rows=2", "--repeat=6", model=model)
            self.assertEqual((done.code, done.err), (0, ""))
            best = done.json()["best"]
            self.assertEqual(best["memory.length"]["unit"], unit)
            got = tools.read_safetensors(out)
            shape = got["induction"][0]
            for name in ("previous_token.abs", "induction_stripe", "pattern.entropy",
                         "memory.step"):
                self.assertEqual(got[name][0], shape)
            self.assertTrue(all(0 <= x <= 1 for x in got["induction"][1]))
            self.assertTrue(all(x > 0 for x in got["memory.length"][1]))

    def test_tokens_that_do_not_repeat(self):
        done, out = self.run_tool("--tokens=" + tools.write_token_file([1, 2, 3, 4]))
        self.assertEqual(done.code, 0)
        self.assertIn("no induction_stripe", done.err)
        self.assertNotIn("induction_stripe", tools.read_safetensors(out))

    def test_random_tokens(self):
        first, out = self.run_tool("--json", "--rows=2", "--repeat=6", "--seed=1")
        self.assertEqual((first.code, first.err), (0, ""))
        result = first.json()
        self.assertEqual(result["tokens"], [2, 13])
        self.assertIn("induction_stripe", result["best"])
        again, same = self.run_tool("--json", "--rows=2", "--repeat=6", "--seed=1")
        self.assertEqual(again.json()["best"], result["best"])
        self.assertEqual(tools.read_safetensors(out), tools.read_safetensors(same))
        _, other = self.run_tool("--rows=2", "--repeat=6", "--seed=2")
        self.assertNotEqual(tools.read_safetensors(out), tools.read_safetensors(other))
        done, _ = self.run_tool("--exclude_bos", "--exclude_current_token", "--first_token=0")
        self.assertEqual(done.code, 0)
        self.assertIn(b"tokens [8, 31]", done.out)  # what a context of 32 holds

    def test_what_is_wrong_is_named(self):
        def fails(code, *args):
            done, out = self.run_tool(*args)
            self.assertFalse(os.path.exists(out))
            return lambda *parts: self.assert_fails(done, code, *parts)

        fails(2, "--repeat=16")("makes 33 tokens", "context of 32")
        fails(2, "--repeat=1")("at least 2")
        fails(2, "--first_token=97")("vocabulary of 97")
        fails(1, "--tokens=" + tools.write_token_file([1, 97]))("vocabulary of 97")
        fails(1, "--tokens=" + os.path.join(tools.golden("tl_gpt2"), "inputs.safetensors"),
              "--input=repeatde")("did you mean 'repeated'")


if __name__ == "__main__":
    run_cases.main()
