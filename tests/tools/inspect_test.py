"""Tests of //tools:inspect as a user runs it."""

import json
import os
import shutil
import tempfile
import unittest

from tests.harness import run_cases
from tests.tools import tools


def _copy(case):
    """A writable copy of a golden folder; returns its path."""
    folder = tempfile.mkdtemp(dir=os.environ["TEST_TMPDIR"])
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(os.path.join(tools.golden(case), name), os.path.join(folder, name))
    return folder


def _change(folder, **fields):
    """Sets fields of config.json; None removes one."""
    path = os.path.join(folder, "config.json")
    with open(path) as f:
        config = json.load(f)
    for name, value in fields.items():
        config[name] = value
        if value is None:
            del config[name]
    with open(path, "w") as f:
        json.dump(config, f)
    return folder


class InspectTest(unittest.TestCase, tools.ToolTest):

    def inspect(self, path, *args):
        done = tools.run("inspect", "--model=" + path, "--json", *args)
        self.assertEqual((done.code, done.err), (0, ""))
        return done.json()

    def test_common(self):
        self.assert_common("inspect")

    def test_a_folder(self):
        for args in ([], ["--no_mmap"]):
            got = self.inspect(tools.golden("gpt2_options"), *args)
            self.assertEqual(got["config"]["model_type"], "gpt2")
            parameters = {p["name"]: p for p in got["parameters"]}
            self.assertEqual(parameters["blocks.1.attn.W_K"],
                             {"name": "blocks.1.attn.W_K", "shape": [3, 60, 20], "dtype": "F32",
                              "tensor": "transformer.h.1.attn.c_attn.weight"})
            self.assertEqual(parameters["unembed.W_U"]["shape"], [60, 301])
            self.assertEqual(parameters["blocks.0.mlp.W_in"]["shape"],
                             [60, 100])
            count = 0
            for parameter in got["parameters"]:
                size = 1
                for n in parameter["shape"]:
                    size *= n
                count += size
            self.assertEqual(got["n_parameters"], count)
            dims = {p["name"]: p["dims"] for p in got["hook_points"]}
            self.assertEqual(dims["blocks.1.attn.hook_pattern"], "[batch, n_heads, query, key]")
            self.assertIn("blocks.0.hook_resid_mid", dims)
            self.assertIn("ln_final.hook_scale", dims)

    def test_a_folder_in_words(self):
        done = tools.run("inspect", "--model=" + tools.golden("tl_attn_only"))
        self.assertEqual((done.code, done.err), (0, ""))
        text = done.out.decode()
        for part in ('"attn_only": true', "blocks.0.attn.W_Q", "[3, 24, 8]",
                     "blocks.1.attn.hook_pattern", " parameters\n"):
            self.assertIn(part, text)

    def test_a_file(self):
        got = self.inspect(os.path.join(tools.golden("tl_attn_only"), "model.safetensors"))
        shapes = {p["name"]: (p["shape"], p["dtype"]) for p in got["parameters"]}
        self.assertEqual(shapes["W_Q"], ([2, 3, 24, 8], "F32"))
        self.assertEqual((got["config"], got["hook_points"]), ({}, []))
        got = self.inspect(tools.write_token_file([3, 1, 4]))
        self.assertEqual(got["parameters"],
                         [{"name": "input_ids", "shape": [1, 3], "dtype": "I64"}])

    def test_what_is_wrong_is_named(self):
        def fails(folder, *parts):
            self.assert_fails(tools.run("inspect", "--model=" + folder), 1, *parts)

        fails("/no/such/folder", "/no/such/folder/config.json")
        fails(_change(_copy("gpt2_tiny"), n_layer=3), "does not fit config.json: missing",
              "'transformer.h.2.ln_1.weight'", "and 7 more")
        fails(_change(_copy("gpt2_tiny"), vocab_size=312),
              "'transformer.wte.weight' is [311, 48], expected [312, 48]")
        fails(_change(_copy("gpt2_tiny"), n_layer=1 << 40),
              "'n_layer' is 1099511627776, expected an integer in [1, 4096]")
        fails(_change(_copy("gpt2_tiny"), n_head=5), "'n_head' is 5, expected a divisor of")
        fails(_change(_copy("gpt2_tiny"), model_type="gtp2"), "did you mean 'gpt2'?")
        fails(_change(_copy("gpt2_tiny"), add_cross_attention=True), "'add_cross_attention'")
        fails(_change(_copy("tl_attn_only"), attention_dir="bidirectional"), "'attention_dir'")
        broken = _copy("gpt2_tiny")
        with open(os.path.join(broken, "config.json"), "a") as f:
            f.write("}")
        fails(broken, "config.json: not valid JSON")
        empty = _copy("gpt2_tiny")
        os.remove(os.path.join(empty, "model.safetensors"))
        fails(empty, "no model.safetensors and no model.safetensors.index.json")
        cut = _copy("gpt2_tiny")
        with open(os.path.join(cut, "model.safetensors"), "r+b") as f:
            f.truncate(300000)
        fails(cut, "model.safetensors")

    def test_warnings_do_not_stop(self):
        folder = _change(_copy("tl_attn_only"), positional_embeding_type="alibi")
        done = tools.run("inspect", "--model=" + folder, "--json")
        self.assertEqual(done.code, 0)
        self.assertIn("inspect: warning: ", done.err)
        self.assertIn("positional_embeding_type", done.err)
        self.assertGreater(done.json()["n_parameters"], 0)


if __name__ == "__main__":
    run_cases.main()
