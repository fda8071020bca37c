"""Tests of //tools:neurons as a user runs it."""

import os
import unittest

from tests.harness import run_cases
from tests.tools import tools

_TEXT = "the cat sat on the mat, and the dog sat on the cat. " * 20


class NeuronsTest(unittest.TestCase, tools.ToolTest):

    @classmethod
    def setUpClass(cls):
        cls.folder = tools.folder_with_tokenizer(_TEXT, 300)
        cls.text = tools.write("text.txt", _TEXT)

    def run_tool(self, *args):
        return tools.run("neurons", "--model=" + self.folder, "--text=" + self.text, *args)

    def test_common(self):
        self.assert_common("neurons")

    def test_examples(self):
        out = os.path.join(self.folder, "out.safetensors")
        done = self.run_tool("--hook=blocks.1.mlp.hook_post", "--neurons=3,0", "--count=2",
                             "--context=16", "--json", "--out=" + out)
        self.assertEqual((done.code, done.err), (0, ""))
        neurons = done.json()["neurons"]
        self.assertEqual([n["neuron"] for n in neurons], [3, 0])
        tensors = tools.read_safetensors(out)
        self.assertEqual(tensors["activation"][0], [192, 2])
        positions = tools.read_integers(out, "position")
        for neuron in neurons:
            self.assertEqual(len(neuron["examples"]), 2)
            self.assertGreaterEqual(neuron["examples"][0]["activation"],
                                    neuron["examples"][1]["activation"])
            for k, example in enumerate(neuron["examples"]):
                self.assertIn(example["before"] + example["token"] + example["after"], _TEXT)
                self.assertEqual(positions[2 * neuron["neuron"] + k], example["position"])
                self.assertAlmostEqual(tensors["activation"][1][2 * neuron["neuron"] + k],
                                       example["activation"], places=5)

    def test_the_largest_in_words(self):
        done = self.run_tool()
        self.assertEqual(done.code, 0)
        self.assertEqual(done.out.count(b"neuron "), 10)

    def test_what_is_wrong_is_named(self):
        self.assert_fails(self.run_tool("--hook=blocks.0.mlp.hook_psot"), 2, "--hook",
                          "did you mean", "hook_post")
        self.assert_fails(self.run_tool("--hook=blocks.0.attn.hook_q"), 1,
                          "expected [batch, pos, neurons]")
        self.assert_fails(self.run_tool("--neurons=192"), 2, "'192'", "0 to 191")
        self.assert_fails(self.run_tool("--context=8", "--stride=9"), 1, "stride 9")
        self.assert_fails(tools.run("neurons", "--model=" + self.folder, "--text=/no/such"), 1,
                          "/no/such")


if __name__ == "__main__":
    run_cases.main()
