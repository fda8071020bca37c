"""Tests of //tools:attribute as a user runs it."""

import os
import tempfile
import unittest

from tests.harness import run_cases
from tests.tools import tools

_PARTS = ["embed", "pos_embed", "0_attn_out", "0_mlp_out", "1_attn_out", "1_mlp_out"]


def _inputs(model):
    return os.path.join(tools.golden(model), "inputs.safetensors")


class AttributeTest(unittest.TestCase, tools.ToolTest):

    def run_tool(self, *args, model="tl_gpt2", tokens=None):
        out = os.path.join(tempfile.mkdtemp(dir=os.environ["TEST_TMPDIR"]), "out.safetensors")
        if tokens is None:
            args += ("--tokens=" + _inputs(model), "--input=clean")
        else:
            args += ("--tokens=" + tokens,)
        return tools.run("attribute", "--model=" + tools.golden(model), "--out=" + out, *args), out

    def ids(self, model, name):
        return tools.read_integers(_inputs(model), name)

    def flags(self, model):
        return ["--%s=%s" % (name, ",".join(map(str, self.ids(model, name))))
                for name in ("answer", "wrong")]

    def assert_close(self, got, want, limit=5e-5):
        self.assertEqual(got[0], want[0])
        self.assertLess(max(abs(a - b) for a, b in zip(got[1], want[1])), limit)

    def test_common(self):
        self.assert_common("attribute")

    def test_the_reference(self):
        for model in ("tl_gpt2", "tl_attn_only"):
            want = tools.read_safetensors(os.path.join(tools.golden(model), "analyses.safetensors"))
            for mode, flags in (("raw.", []), ("processed.", ["--process_weights"])):
                done, out = self.run_tool(*flags, *self.flags(model), model=model)
                self.assertEqual((done.code, done.err), (0, ""))
                got = tools.read_safetensors(out)
                for name in ("decompose_resid", "accumulated_resid_ln", "stack_head_results"):
                    self.assert_close(got[name], want[mode + name])
                diff = got["logit_diff"][1]
                self.assertAlmostEqual(sum(diff) / 2, want[mode + "logit_diff_clean"][1][0],
                                       places=4)
                # Parts and bias add up; the reference leaves the norm's gain out unless folded.
                attributions = got["logit_attrs"][1]
                for row in (0, 1):
                    self.assertAlmostEqual(
                        sum(attributions[row::2]) + got["logit_attrs_bias"][1][row], diff[row],
                        places=4)
                if mode == "processed.":
                    self.assert_close(got["logit_attrs"], want[mode + "logit_attrs_last"])
                    self.assert_close(got["logit_attrs_heads"],
                                      want[mode + "logit_attrs_heads_last"])
                # A lens on the last stream is the model.
                for a, b in zip(got["logit_lens"][1][-2:], diff):
                    self.assertAlmostEqual(a, b, places=4)

    def test_labels_and_names(self):
        done, out = self.run_tool(*self.flags("tl_gpt2"), "--json", "--names=logit_*")
        result = done.json()
        self.assertEqual(result["labels"]["decompose_resid"], _PARTS)
        self.assertEqual(result["labels"]["accumulated_resid"],
                         ["0_pre", "0_mid", "1_pre", "1_mid", "final_post"])
        self.assertEqual(result["labels"]["heads"][5], "L1H1")
        self.assertEqual(result["labels"]["neurons"], ["0_mlp", "1_mlp"])
        self.assertLess(result["sum_error"], 1e-6)
        self.assertEqual(result["position"], [9, 9])
        got = tools.read_safetensors(out)
        self.assertEqual(sorted(got), ["logit_attrs", "logit_attrs_bias", "logit_attrs_heads",
                                       "logit_attrs_neurons", "logit_diff", "logit_lens"])
        self.assertEqual(got["logit_attrs_neurons"][0], [2, 2, 128])

    def test_every_architecture(self):
        for model in ("gpt2_tiny", "llama_tiny", "neox_parallel", "attn_only_shortformer"):
            done, _ = self.run_tool("--answer=5", "--json", model=model,
                                    tokens=tools.write_token_file([1, 2, 3]))
            self.assertEqual(done.code, 0, done.err)
            self.assertLess(done.json()["sum_error"], 1e-5)
        done, _ = self.run_tool("--answer=5", "--position=1",
                                tokens=tools.write_token_file([1, 2, 3]))
        self.assertIn(b"row 0, position 1", done.out)
        self.assertIn(b"1_mlp_out", done.out)

    def test_what_is_wrong_is_named(self):
        def fails(code, *args, **kwargs):
            done, out = self.run_tool(*args, **kwargs)
            self.assertFalse(os.path.exists(out))
            return lambda *parts: self.assert_fails(done, code, *parts)

        fails(2, "--answer=1")("--answer: found 1 for 2 rows of tokens, expected one for each")
        fails(2, "--answer=1,97")("--answer: 97 is outside the vocabulary of 97")
        fails(2, "--answer=1,2", "--wrong=1")("--wrong: found 1")
        fails(2, "--answer=1,2", "--position=1,10")("--position: 10 is outside the length of 10")
        fails(2, "--answer=1,x")("--answer: 'x', expected an integer")
        fails(2, "--answer=1,2", "--names=logit_attr")("'logit_attr'", "did you mean 'logit_attrs'")
        fails(1, "--answer=1", tokens=tools.write_token_file([97]))("vocabulary of 97")


if __name__ == "__main__":
    run_cases.main()
