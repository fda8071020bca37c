"""Tests of //tools:circuits as a user runs it."""

import os
import shutil
import tempfile
import unittest

from tests.harness import run_cases
from tests.tools import tools

_NAMES = {name: name for name in (
    "OV.singular_values", "QK.singular_values", "composition.Q", "composition.K", "composition.V")}
_NAMES.update({"%s.copying_score" % name: "%s.eigenvalue_copying_score" % name
               for name in ("OV", "QK", "full_OV", "full_QK")})


class CircuitsTest(unittest.TestCase, tools.ToolTest):

    def run_tool(self, *args, model="tl_gpt2"):
        out = os.path.join(tempfile.mkdtemp(dir=os.environ["TEST_TMPDIR"]), "out.safetensors")
        return tools.run("circuits", "--model=" + tools.golden(model), "--out=" + out, *args), out

    def test_common(self):
        self.assert_common("circuits")

    def test_the_reference(self):
        for model in ("tl_gpt2", "tl_attn_only"):
            want = tools.read_safetensors(os.path.join(tools.golden(model), "analyses.safetensors"))
            for mode, flags in (("raw.", []), ("processed.", ["--process_weights"])):
                done, out = self.run_tool(*flags, model=model)
                self.assertEqual((done.code, done.err), (0, ""))
                got = tools.read_safetensors(out)
                self.assertEqual(len(got), len(_NAMES) + 3)  # and the deviations from chance
                for ours, theirs in _NAMES.items():
                    shape, values = want[mode + theirs]
                    self.assertEqual(got[ours][0], shape)
                    for a, b in zip(got[ours][1], values):
                        self.assertAlmostEqual(a, b, delta=5e-5, msg=mode + ours)

    def test_names(self):
        done, out = self.run_tool("--names=composition.?,OV*", "--json", "--top=2")
        self.assertEqual(done.code, 0)
        self.assertEqual(sorted(tools.read_safetensors(out)), [
            "OV.copying_score", "OV.singular_values", "composition.K", "composition.Q",
            "composition.V"])
        result = done.json()
        self.assertEqual(sorted(result["top_compositions"]), ["K", "Q", "V"])
        self.assertEqual(len(result["top_compositions"]["K"]), 2)
        self.assertAlmostEqual(result["composition_by_chance"], 32 ** -0.5)
        self.assertNotIn("full_copying", result["seconds"])

    def test_skip_trigrams(self):
        done, _ = self.run_tool("--names=OV.copying_score", "--skip_trigrams=3",
                                "--heads=L1H2,L0H0", "--json")
        found = done.json()["skip_trigrams"]
        self.assertEqual([head["head"] for head in found], [[0, 0], [1, 2]])
        for head in found:
            scores = [t["score"] for t in head["trigrams"]]
            self.assertEqual(len(scores), 3)
            self.assertEqual(scores, sorted(scores, reverse=True))
            for t in head["trigrams"]:
                self.assertAlmostEqual(t["qk"] * t["ov"], t["score"], places=9)
                self.assertGreater(min(t["qk"], t["ov"]), 0)
        done, _ = self.run_tool("--skip_trigrams=1")
        self.assertIn(b"L1H3: source ... destination -> out", done.out)
        self.assertIn(b"K-composition (by chance 0.1768)", done.out)

    def test_skip_trigrams_in_words(self):
        folder = tools.folder_with_tokenizer("the cat sat on the mat " * 20, 300)
        out = os.path.join(folder, "out.safetensors")
        done = tools.run("circuits", "--model=" + folder, "--out=" + out, "--skip_trigrams=1",
                         "--json")
        self.assertEqual(done.code, 0, done.err)
        self.assertEqual(len(done.json()["skip_trigrams"][0]["trigrams"][0]["text"]), 3)

    def test_grouped_queries(self):
        done, out = self.run_tool(model="llama_tiny")
        self.assertEqual(done.code, 0, done.err)
        self.assertEqual(tools.read_safetensors(out)["composition.V"][0], [2, 6, 2, 6])

    def test_what_is_wrong_is_named(self):
        def fails(code, *args, **kwargs):
            done, out = self.run_tool(*args, **kwargs)
            self.assertFalse(os.path.exists(out))
            return lambda *parts: self.assert_fails(done, code, *parts)

        fails(2, "--names=composition.q")("no tensor matches 'composition.q'", "'composition.Q'")
        fails(2, "--heads=L2H0")("no head 'L2H0'", "L0H0 to L1H3")
        fails(2, "--skip_trigrams=-1")("--skip_trigrams")
        self.assert_fails(tools.run("circuits", "--model=/no/such", "--out=/tmp/x"), 1, "/no/such")
        folder = tempfile.mkdtemp(dir=os.environ["TEST_TMPDIR"])
        shutil.copyfile(os.path.join(tools.golden("tl_gpt2"), "config.json"),
                        os.path.join(folder, "config.json"))
        self.assert_fails(tools.run("circuits", "--model=" + folder, "--out=" + folder + "/o"), 1,
                          folder)


if __name__ == "__main__":
    run_cases.main()
