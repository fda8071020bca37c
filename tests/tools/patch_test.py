"""Tests of //tools:patch as a user runs it."""

import json
import os
import struct
import tempfile
import unittest

from tests.harness import run_cases
from tests.tools import tools

_PAIRS = (("resid_pre", "pos", "resid_pre"), ("attn_out", "pos", "attn_out"),
          ("z", "head", "z_all_pos"), ("z", "head_pos", "z_by_pos"),
          ("q", "head", "q_all_pos"), ("q", "head_pos", "q_by_pos"),
          ("k", "head", "k_all_pos"), ("k", "head_pos", "k_by_pos"),
          ("v", "head", "v_all_pos"), ("v", "head_pos", "v_by_pos"),
          ("pattern", "head", "pattern_all_pos"), ("pattern", "head_pos", "pattern_by_pos"))
_GPT2_ONLY = (("resid_mid", "pos", "resid_mid"), ("mlp_out", "pos", "mlp_out"))


def _ids(model, name):
    """The integers of a tensor of the model's inputs."""
    with open(os.path.join(tools.golden(model), "inputs.safetensors"), "rb") as f:
        data = f.read()
    size = struct.unpack("<Q", data[:8])[0]
    begin, end = json.loads(data[8:8 + size])[name]["data_offsets"]
    return struct.unpack("<%dq" % ((end - begin) // 8), data[8 + size + begin:8 + size + end])


class PatchTest(unittest.TestCase, tools.ToolTest):

    def run_tool(self, *args, model="tl_gpt2", prompts=None, answers=True):
        out = os.path.join(tempfile.mkdtemp(dir=os.environ["TEST_TMPDIR"]), "out.safetensors")
        inputs = os.path.join(tools.golden(model), "inputs.safetensors")
        clean, corrupted = prompts or (inputs + ":clean", inputs + ":corrupted")
        flags = ["--%s=%s" % (name, ",".join(map(str, _ids(model, name))))
                 for name in ("answer", "wrong")] if answers else []
        done = tools.run("patch", "--model=" + tools.golden(model), "--clean=" + clean,
                         "--corrupted=" + corrupted, "--out=" + out, *flags, *args)
        return done, out

    def patched(self, *args, **kwargs):
        done, out = self.run_tool(*args, **kwargs)
        self.assertEqual((done.code, done.err), (0, ""))
        return tools.read_safetensors(out)

    def assert_close(self, got, want, limit=1e-4):
        self.assertEqual(got[0], want[0])
        self.assertLess(max(abs(a - b) for a, b in zip(got[1], want[1])), limit)

    def test_common(self):
        self.assert_common("patch")

    def test_every_sweep_of_the_reference(self):
        for model in ("tl_gpt2", "tl_attn_only"):
            want = tools.read_safetensors(
                os.path.join(tools.golden(model), "expected.safetensors"))
            for mode, flags in (("raw", []), ("processed", ["--process_weights"])):
                for kind, by, name in _PAIRS + (_GPT2_ONLY if model == "tl_gpt2" else ()):
                    with self.subTest(model=model, mode=mode, kind=kind, by=by):
                        got = self.patched("--kind=" + kind, "--by=" + by, *flags, model=model)
                        self.assertEqual(sorted(got), ["clean", "corrupted", "result"])
                        self.assert_close(got["result"], want[mode + ".patch." + name])
                        self.assert_close(got["clean"], want[mode + ".logit_diff_clean"])
                        self.assert_close(got["corrupted"], want[mode + ".logit_diff_corrupted"])

    def test_stacks(self):
        want = tools.read_safetensors(
            os.path.join(tools.golden("tl_gpt2"), "expected.safetensors"))
        blocks = self.patched("--kind=block_every", "--by=pos")["result"]
        self.assertEqual(blocks[0], [3, 2, 10])
        heads = self.patched("--kind=head_every", "--by=head")["result"]
        self.assertEqual(heads[0], [5, 2, 4])
        for i, name in enumerate(("resid_pre", "attn_out", "mlp_out")):
            self.assert_close(([2, 10], blocks[1][20 * i:20 * i + 20]),
                              want["raw.patch." + name])
        for i, name in enumerate(("z", "q", "k", "v", "pattern")):
            self.assert_close(([2, 4], heads[1][8 * i:8 * i + 8]),
                              want["raw.patch.%s_all_pos" % name])
        # Patterns by [layer, head, query] stand as [layer, pos, head] among the others.
        by_pos = self.patched("--kind=head_every", "--by=head_pos")["result"]
        self.assertEqual(by_pos[0], [5, 2, 10, 4])
        pattern = want["raw.patch.pattern_by_pos"][1]
        turned = [pattern[(l * 4 + h) * 10 + p] for l in range(2) for p in range(10)
                  for h in range(4)]
        self.assert_close(([80], by_pos[1][320:]), ([80], turned))

    def test_grouped_heads(self):
        tokens = [tools.write_token_file(ids) for ids in ([5, 9, 3, 7], [5, 2, 3, 7])]
        got = self.patched("--kind=k", "--by=head", "--answer=4", "--wrong=8", model="llama_tiny",
                           prompts=tokens, answers=False)
        heads = self.patched("--kind=q", "--by=head", "--answer=4", "--wrong=8",
                             model="llama_tiny", prompts=tokens, answers=False)
        self.assertLess(got["result"][0][1], heads["result"][0][1])
        stacked = self.patched("--kind=head_every", "--by=head", "--answer=4", "--wrong=8",
                               model="llama_tiny", prompts=tokens, answers=False)["result"]
        self.assertEqual(stacked[0], [5] + heads["result"][0])

    def test_examples(self):
        got = self.patched("--kind=z", "--by=head", "--examples")
        self.assertEqual(got["by_example"][0], [2, 4, 2])
        for i, mean in enumerate(got["result"][1]):
            pair = got["by_example"][1][2 * i:2 * i + 2]
            self.assertAlmostEqual(mean, sum(pair) / 2, places=5)
            self.assertAlmostEqual(got["low"][1][i], min(pair), places=5)
            self.assertAlmostEqual(got["high"][1][i], max(pair), places=5)
            self.assertIn(got["p_value"][1][i], (0.5, 1.0))

    def test_attribution(self):
        # The estimate has the sign of the largest effect.
        patched = self.patched("--kind=z", "--by=head")
        estimate = self.patched("--kind=z", "--by=head", "--method=attribution")
        effects = [v - patched["corrupted"][1][0] for v in patched["result"][1]]
        largest = max(range(8), key=lambda i: abs(effects[i]))
        self.assertGreater(effects[largest] * estimate["result"][1][largest], 0)
        clean = self.patched("--kind=z", "--by=head", "--method=attribution", "--gradient=clean")
        self.assertNotEqual(clean["result"], estimate["result"])

    def test_fixes_of_the_estimate(self):
        plain = self.patched("--kind=q", "--by=head", "--method=attribution")["result"]
        fixed = self.patched("--kind=q", "--by=head", "--method=qk_fix")["result"]
        self.assertEqual(fixed[0], [2, 4])
        self.assertNotEqual(fixed[1], plain[1])
        # Of other points it is the plain one.
        values = [self.patched("--kind=v", "--by=head_pos", "--method=" + method)["result"]
                  for method in ("attribution", "qk_fix")]
        self.assertEqual(values[0], values[1])
        dropped = self.patched("--kind=q", "--by=head", "--method=attribution",
                               "--grad_drop")["result"]
        both = self.patched("--kind=q", "--by=head", "--method=atp_star")["result"]
        for scores in (dropped[1], both[1]):
            self.assertGreaterEqual(min(scores), 0)
            self.assertGreater(max(scores), 0)
        # In the last of two layers the term of its own is 0 and the other's is the plain estimate
        # of each example, without its sign.
        signed = self.patched("--kind=q", "--by=head", "--method=attribution",
                              "--examples")["by_example"]
        self.assertEqual(signed[0], [2, 4, 2])
        for head in range(4):
            pair = signed[1][8 + 2 * head:10 + 2 * head]
            self.assertAlmostEqual(dropped[1][4 + head], sum(map(abs, pair)) / 2, places=5)
        self.assertEqual(self.patched("--kind=q", "--by=head", "--method=exact"),
                         self.patched("--kind=q", "--by=head"))
        done, _ = self.run_tool("--kind=q", "--by=head", "--method=atp_star", "--json")
        self.assertEqual((done.json()["qk_fix"], done.json()["grad_drop"]), (True, True))

    def test_task(self):
        out = os.path.join(tempfile.mkdtemp(dir=os.environ["TEST_TMPDIR"]), "out.safetensors")
        model = "--model=" + tools.golden("tl_attn_only")
        flags = ("--task=induction", "--rows=3", "--length=8", "--kind=z", "--by=head")
        done = tools.run("patch", model, "--out=" + out, *flags)
        self.assertEqual((done.code, done.err), (0, ""))
        made = tools.read_safetensors(out)
        tokens = tools.read_integers(out, "clean_ids")
        self.assertEqual(len(tokens), 3 * 8)
        # The prompts it kept give the same from files.
        again = out + ".again"
        ids = ["--%s=%s" % (name, ",".join(map(str, tools.read_integers(out, name))))
               for name in ("answer", "wrong")]
        done = tools.run("patch", model, "--clean=%s:clean_ids" % out,
                         "--corrupted=%s:corrupted_ids" % out, "--out=" + again, *ids, *flags[3:])
        self.assertEqual((done.code, done.err), (0, ""))
        self.assertEqual(tools.read_safetensors(again)["result"], made["result"])
        other = out + ".other"
        tools.run("patch", model, "--seed=1", "--out=" + other, *flags)
        self.assertNotEqual(tools.read_integers(other, "clean_ids"), tokens)

        def fails(*args, parts):
            done = tools.run("patch", model, "--out=" + out, *args)
            self.assert_fails(done, 2, *parts)
        fails("--kind=z", parts=["--clean and --corrupted are needed, or --task"])
        fails("--task=inductoin", parts=["did you mean 'induction'?"])
        fails("--task=ioi", parts=["the model has no tokenizer"])
        fails("--task=induction", "--answer=3", parts=["leave out"])

    def test_other_metrics(self):
        for metric in ("loss", "probability"):
            got = self.patched("--kind=resid_pre", "--by=layer", "--metric=" + metric)
            # The whole stream before a block is the clean run.
            for value in got["result"][1]:
                self.assertAlmostEqual(value, got["clean"][1][0], places=4)
            self.assertNotAlmostEqual(got["clean"][1][0], got["corrupted"][1][0], places=4)
        got = self.patched("--kind=resid_pre", "--by=layer", "--metric=kl", answers=False)
        self.assertAlmostEqual(max(map(abs, got["result"][1])), 0, places=5)
        self.assertGreater(got["corrupted"][1][0], 1e-3)

    def test_json(self):
        done, out = self.run_tool("--kind=pattern", "--by=head_dest", "--json")
        self.assertEqual((done.code, done.err), (0, ""))
        said = done.json()
        self.assertEqual((said["out"], said["axes"], said["shape"], said["cells"]),
                         (out, ["layer", "head", "pos"], [2, 4, 10], 80))
        self.assertEqual((said["metric"], said["method"], said["kind"]),
                         ("logit_difference", "activation", "pattern"))
        self.assertGreater(said["seconds"]["patch"], 0)

    def test_what_is_wrong_is_named(self):
        def fails(code, *args, parts, **kwargs):
            done, out = self.run_tool(*args, **kwargs)
            self.assertFalse(os.path.exists(out))
            self.assert_fails(done, code, *parts)

        fails(2, "--kind=resid_per", parts=["resid_per", "did you mean 'resid_pre'"])
        fails(2, "--kind=ln1.hook_scal", parts=["did you mean"])
        fails(2, "--kind=blocks.0.attn.hook_z", parts=["one block", "as 'attn.hook_z'"])
        fails(2, "--by=poss", parts=["'poss' is no axis", "did you mean 'pos'"])
        fails(2, "--by=head", parts=["[batch, pos, d_model]", "without an axis 'head'"])
        fails(2, "--metric=loss", answers=False, parts=["--answer is needed"])
        fails(2, "--answer=1,2,3", parts=["--answer has 3 ids", "2 prompts"])
        fails(2, "--grad_drop", parts=["--method=attribution"])
        fails(2, "--answer=a", parts=["--answer: 'a'"])
        fails(1, "--answer=1,97", parts=["token 97 is outside the vocabulary of 97"])
        fails(1, "--answer=-1,2", parts=["token -1"])
        inputs = os.path.join(tools.golden("tl_gpt2"), "inputs.safetensors")
        fails(1, prompts=(inputs + ":claen", inputs + ":corrupted"),
              parts=["--clean", "no tensor 'claen'", "did you mean 'clean'"])
        fails(1, prompts=(inputs + ":clean", inputs + ":repeated"), parts=["[2, 10]", "[1, 19]"])
        fails(1, prompts=(inputs + ":clean", "/no/such.safetensors"),
              parts=["--corrupted", "/no/such.safetensors"])
        outside = tools.write_token_file([5, 97])
        good = tools.write_token_file([5, 6])
        fails(1, "--answer=1", "--wrong=2", prompts=(good, outside), answers=False,
              parts=["token 97 at row 0, position 1 is outside the vocabulary of 97"])


if __name__ == "__main__":
    run_cases.main()
