"""Tests of //tools:lens as a user runs it."""

import os
import tempfile
import unittest

from tests.harness import run_cases
from tests.tools import tools

_TEXT = "the cat sat on the mat, and the dog sat on the cat. " * 40


class LensTest(unittest.TestCase, tools.ToolTest):

    @classmethod
    def setUpClass(cls):
        cls.folder = tools.folder_with_tokenizer(_TEXT, 300)

    def run_tool(self, *args, model=None):
        out = os.path.join(tempfile.mkdtemp(dir=os.environ["TEST_TMPDIR"]), "report.html")
        return tools.run("lens", "--model=" + (model or self.folder), "--out=" + out, *args), out

    def page(self, *args, **kwargs):
        done, out = self.run_tool(*args, **kwargs)
        self.assertEqual((done.code, done.err), (0, ""))
        with open(out, encoding="utf-8") as f:
            return done, f.read()

    def test_common(self):
        self.assert_common("lens")

    def test_a_prompt(self):
        done, page = self.page("--prompt=the cat <b>sat</b>", "--json")
        result = done.json()
        self.assertEqual(len(result["next"]), 5)
        self.assertAlmostEqual(sum(result["attribution"].values()), result["logit_diff"], places=3)
        self.assertEqual(list(sorted(result["attribution"])), sorted([
            "embed", "pos_embed", "0_attn_out", "0_mlp_out", "1_attn_out", "1_mlp_out", "bias"]))
        self.assertNotEqual(result["answer"]["id"], result["wrong"]["id"])
        self.assertNotIn("<b>", page)
        for part in ("the cat &lt;b&gt;sat", "L1H3", "1_pre", "logit lens"):
            self.assertIn(part, page)
        self.assertNotIn("tuned lens beside", page)

    def test_a_tuned_lens(self):
        text = tools.write("text.txt", _TEXT)
        done, page = self.page("--prompt=the cat", "--tune_on=" + text, "--tune_steps=30",
                               "--tune_context=32", "--json")
        kl = done.json()["held_out_kl"]
        self.assertEqual(len(kl["tuned_lens"]), 2)
        self.assertLess(sum(kl["tuned_lens"]), sum(kl["logit_lens"]))
        self.assertIn("through a tuned lens", page)
        again, _ = self.page("--prompt=the cat", "--tune_on=" + text, "--tune_steps=30",
                             "--tune_context=32", "--json")
        self.assertEqual(again.json()["held_out_kl"], kl)

    def test_every_architecture(self):
        for model in ("llama_tiny", "neox_parallel", "tl_attn_only", "attn_only_shortformer"):
            done, page = self.page("--tokens=1,2,3,1,2", "--json", model=tools.golden(model))
            self.assertEqual(done.json()["tokens"], [1, 2, 3, 1, 2])
            self.assertIn("[2]", page)
        done, page = self.page("--tokens=1,2,3,1,2", "--json", "--channels=2",
                               model=tools.golden("mamba_auto"))
        memory = done.json()["memory"]
        self.assertEqual([len(layer["step"]) for layer in memory], [5] * len(memory))
        self.assertIn("What the memory keeps", page)
        done, _ = self.page("--tokens=1,2,3", "--answer=5", "--wrong=6")
        self.assertIn(b" %  ", done.out)

    def test_what_is_wrong_is_named(self):
        def fails(code, *args, **kwargs):
            done, out = self.run_tool(*args, **kwargs)
            self.assertFalse(os.path.exists(out))
            return lambda *parts: self.assert_fails(done, code, *parts)

        fails(2)("expected one of --prompt")
        fails(1, "--tokens=1,999")("vocabulary of 311")
        fails(1, "--tokens=1", "--answer=999")("answer: 999 is outside the vocabulary of 311")
        fails(1, "--prompt=a", model=tools.golden("llama_tiny"))("no tokenizer")
        fails(1, "--prompt=a", "--tune_on=/no/such")("/no/such")
        fails(1, "--prompt=a", "--tune_on=" + tools.write("short.txt", "the cat"))(
            "short.txt", "expected at least")


if __name__ == "__main__":
    run_cases.main()
