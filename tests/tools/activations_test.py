"""Tests of //tools:activations as a user runs it."""

import json
import os
import struct
import tempfile
import unittest

from tests.harness import run_cases
from tests.tools import tools


def _file(**tensors):
    """A safetensors file of {name: (dtype, shape, values)}; returns its path."""
    formats = {"I64": "q", "I32": "i", "F32": "f", "U8": "B"}
    header, data = {}, b""
    for name, (dtype, shape, values) in sorted(tensors.items(), key=lambda t: -len(t[1][0])):
        packed = struct.pack("<%d%s" % (len(values), formats[dtype]), *values)
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return tools.write("in.safetensors", struct.pack("<Q", len(text)) + text + data)


class ActivationsTest(unittest.TestCase, tools.ToolTest):

    def run_tool(self, tokens, *args, model="gpt2_tiny"):
        out = os.path.join(tempfile.mkdtemp(dir=os.environ["TEST_TMPDIR"]), "out.safetensors")
        done = tools.run("activations", "--model=" + tools.golden(model), "--tokens=" + tokens,
                         "--out=" + out, *args)
        return done, out

    def activations(self, tokens, *args, **kwargs):
        done, out = self.run_tool(tokens, *args, **kwargs)
        self.assertEqual((done.code, done.err), (0, ""))
        return tools.read_safetensors(out)

    def assert_close(self, got, want, limit=5e-5):
        self.assertEqual(got[0], want[0])
        self.assertLess(max(abs(a - b) for a, b in zip(got[1], want[1])), limit)

    def test_common(self):
        self.assert_common("activations")

    def test_the_reference(self):
        folder = tools.golden("gpt2_tiny")
        got = self.activations(os.path.join(folder, "inputs.safetensors"),
                               "--names=*hook_resid_pre,*attn.hook_pattern")
        want = tools.read_safetensors(os.path.join(folder, "expected.safetensors"))
        self.assertEqual(sorted(got), [
            "blocks.0.attn.hook_pattern", "blocks.0.hook_resid_pre",
            "blocks.1.attn.hook_pattern", "blocks.1.hook_resid_pre", "logits"])
        self.assert_close(got["logits"], want["logits"])
        self.assert_close(got["blocks.1.hook_resid_pre"], want["hidden_states.1"])
        self.assert_close(got["blocks.0.attn.hook_pattern"], want["attentions.0"])

    def test_everything_of_another_input(self):
        folder = tools.golden("tl_gpt2")
        got = self.activations(os.path.join(folder, "inputs.safetensors"), "--input=clean",
                               model="tl_gpt2")
        want = tools.read_safetensors(os.path.join(folder, "expected.safetensors"))
        self.assert_close(got["logits"], want["raw.logits"])
        self.assertGreater(len(got), 50)
        self.assertEqual(got["blocks.1.attn.hook_result"][0], [2, 10, 4, 32])

    def test_processed_weights(self):
        folder = tools.golden("tl_gpt2")
        got = self.activations(os.path.join(folder, "inputs.safetensors"), "--input=clean",
                               "--process_weights", "--names=ln_final.hook_out", model="tl_gpt2")
        want = tools.read_safetensors(os.path.join(folder, "expected.safetensors"))
        self.assert_close(got["logits"], want["processed.logits"], 2e-4)

    def test_padding(self):
        folder = tools.golden("gpt2_tiny")
        inputs = os.path.join(folder, "inputs.safetensors")
        want = tools.read_safetensors(os.path.join(folder, "expected.safetensors"))
        shape, values = want["logits_right_padded"]
        _, got = self.activations(inputs, "--input=padded_input_ids",
                                  "--mask=padded_attention_mask", "--names=hook_embed")["logits"]
        # The reference's logits are zeros at padding.
        self.assertEqual(shape, [2, 17, 311])
        self.assertLess(max(abs(a - b) for a, b in zip(got, values) if b != 0), 5e-5)
        # The same by the usual names.
        rows = _file(input_ids=("I64", [2, 3], [5, 6, 7, 8, 9, 0]),
                     attention_mask=("I64", [2, 3], [1, 1, 1, 1, 1, 0]))
        padded = self.activations(rows, "--names=hook_embed")["logits"][1]
        short = self.activations(_file(input_ids=("I32", [2], [8, 9])),
                                 "--names=hook_embed")["logits"]
        self.assertEqual(short[0], [1, 2, 311])
        for i, want in enumerate(short[1]):
            self.assertAlmostEqual(padded[3 * 311 + i], want, places=4)

    def test_json(self):
        done, out = self.run_tool(_file(input_ids=("I64", [1, 2], [5, 6])), "--names=hook_embed",
                                  "--json")
        self.assertEqual(done.code, 0)
        self.assertEqual(done.json(), {"out": out, "bytes": 2 * 48 * 4, "on_disk": False, "tensors": [
            {"name": "hook_embed", "shape": [1, 2, 48]}, {"name": "logits", "shape": [1, 2, 311]}]})

    def test_parts_of_a_run(self):
        folder = tools.golden("gpt2_tiny")
        tokens = os.path.join(folder, "inputs.safetensors")
        whole = self.activations(tokens)
        rows, length, _ = whole["blocks.1.hook_resid_pre"][0]
        below = self.activations(tokens, "--stop_at_layer=1", "--names=*resid_pre,*hook_pattern")
        self.assertEqual(sorted(below), ["blocks.0.attn.hook_pattern", "blocks.0.hook_resid_pre",
                                         "resid"])
        self.assert_close(below["resid"], whole["blocks.1.hook_resid_pre"], 1e-5)
        # From a file's stream on; by its name, or another.
        done, made = self.run_tool(tokens, "--names=*hook_resid_pre")
        self.assertEqual(done.code, 0, done.err)
        for resid in (made, made + ":blocks.1.hook_resid_pre"):
            above = self.activations(tokens, "--start_at_layer=1", "--resid=" + resid,
                                     "--names=*hook_mlp_out")
            self.assertEqual(sorted(above), ["blocks.1.hook_mlp_out", "logits"])
            self.assert_close(above["logits"], whole["logits"], 1e-5)
        some = self.activations(tokens, "--names=*hook_pattern,*resid_post", "--layers=-1",
                                "--positions=-1,0", "--heads=1")
        shape, values = some["blocks.1.attn.hook_pattern"]
        self.assertEqual(shape, [rows, 1, 2, length])
        heads = whole["blocks.1.attn.hook_pattern"][0][1]
        start = (heads > 1) * length * length + (length - 1) * length
        self.assert_close(([length], values[:length]), ([length], whole[
            "blocks.1.attn.hook_pattern"][1][start:start + length]), 1e-5)
        self.assertEqual(some["blocks.1.hook_resid_post"][0][1], 2)
        self.assertNotIn("blocks.0.hook_resid_post", some)

    def test_more_than_memory_is_to_hold(self):
        tokens = os.path.join(tools.golden("gpt2_tiny"), "inputs.safetensors")
        done, out = self.run_tool(tokens, "--memory_limit=0", "--json")
        self.assertEqual(done.code, 0, done.err)
        self.assertTrue(done.json()["on_disk"])
        streamed, whole = tools.read_safetensors(out), self.activations(tokens)
        self.assertEqual(streamed, whole)
        planned = tools.run("activations", "--model=" + tools.golden("gpt2_tiny"),
                            "--tokens=" + tokens, "--plan", "--json").json()
        held = sum(4 * len(values) for name, (_, values) in whole.items() if name != "logits")
        self.assertEqual(planned["bytes"], held)
        self.assertEqual(len(planned["tensors"]), len(whole) - 1)

    def test_a_list_of_patterns_serves_models_of_all_kinds(self):
        folder = tools.golden("mamba_auto")
        done, out = self.run_tool(os.path.join(folder, "inputs.safetensors"),
                                  "--names=*hook_resid_post,*attn.hook_pattern,*hook_state",
                                  model="mamba_auto")
        self.assertEqual(done.code, 0, done.err)
        self.assertIn("no hook point matches '*attn.hook_pattern'", done.err)
        got = tools.read_safetensors(out)
        want = tools.read_safetensors(os.path.join(folder, "expected.safetensors"))
        self.assert_close(got["logits"], want["logits"], 2.4e-4)
        for layer in range(3):
            self.assert_close(got["blocks.%d.hook_resid_post" % layer],
                              want["hidden_states.%d" % layer], 1.6e-3)
        self.assert_close(got["blocks.0.mixer.hook_state"], want["mixer.0.ssm_states"], 7.3e-5)
        # Alone, or by name, it has to be there.
        for names in ("*attn.hook_pattern", "*hook_resid_post,blocks.0.attn.hook_pattern"):
            done, out = self.run_tool(os.path.join(folder, "inputs.safetensors"),
                                      "--names=" + names, model="mamba_auto")
            self.assert_fails(done, 2, "no hook point matches", "attn.hook_pattern")

    def test_what_is_wrong_is_named(self):
        def fails(code, tokens, *args):
            done, out = self.run_tool(tokens, *args)
            self.assertFalse(os.path.exists(out))
            return lambda *parts: self.assert_fails(done, code, *parts)

        good = _file(input_ids=("I64", [1, 2], [5, 6]))
        fails(2, good, "--names=blocks.0.attn.hook_patern")("--names",
                                                            "did you mean", "hook_pattern")
        fails(2, good, "--layers=2")("layer 2 of the model is outside [-2, 2)")
        fails(2, good, "--positions=2")("position 2 of prompts of 2 tokens")
        fails(2, good, "--positions=a")("--positions: 'a'")
        fails(2, good, "--heads=9", "--names=*hook_z")("head 9 of 'blocks.0.attn.hook_z'")
        fails(1, good, "--start_at_layer=1")("needs the stream that enters it")
        fails(1, good, "--stop_at_layer=3")("stop_at_layer is 3")
        fails(1, good, "--start_at_layer=1", "--resid=" + good)("no tensor", "hook_resid_pre")
        fails(1, good, "--start_at_layer=1", "--resid=" + good + ":input_ids")(
            "the stream that enters layer 1 is i64[1, 2]")
        fails(1, good, "--input=input_idz")("no tensor 'input_idz'; did you mean 'input_ids'?")
        fails(1, good, "--mask=m")("no tensor 'm'")
        fails(1, _file(input_ids=("I64", [1, 2], [5, 311])))(
            "token 311 at row 0, position 1 is outside the vocabulary of 311")
        fails(1, _file(input_ids=("I64", [1, 65], [0] * 65)))("context of 64")
        fails(1, _file(input_ids=("I64", [1, 0], [])))("empty")
        fails(1, _file(input_ids=("F32", [1, 1], [0.5])))("F32[1, 1], expected integers")
        fails(1, _file(input_ids=("I64", [1, 1, 1], [5])))("expected integers [batch, pos]")
        fails(1, _file(input_ids=("I64", [1, 2], [5, 6]), attention_mask=("I64", [1, 3], [1] * 3)))(
            "'attention_mask' is I64[1, 3]", "[1, 2]")
        fails(1, _file(input_ids=("I64", [1, 2], [5, 6]), attention_mask=("I64", [1, 2], [1, 2])))(
            "'attention_mask' holds 2")
        fails(1, "/no/such/file.safetensors")("/no/such/file.safetensors")
        done = tools.run("activations", "--model=" + tools.golden("gpt2_tiny"), "--tokens=" + good,
                         "--out=/proc/no/such/out.safetensors")
        self.assert_fails(done, 1, "/proc/no/such")


if __name__ == "__main__":
    run_cases.main()
