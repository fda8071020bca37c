"""Tests of //tools:evaluate as a user runs it."""

import json
import math
import os
import unittest

from tests.harness import run_cases
from tests.tools import tools

_TEXT = "the cat sat on the mat, the \u00e9\u00e9 cat sat on the mat\n" * 3


def _losses(folder, ids):
    """-ln p of ids[1:], each given those before it, from the logits of //tools:activations."""
    out = os.path.join(os.environ["TEST_TMPDIR"], "activations.safetensors")
    done = tools.run("activations", "--model=" + folder, "--tokens=" + tools.write_token_file(ids),
                     "--names=hook_embed", "--out=" + out)
    if done.code:
        raise AssertionError(done.err)
    (_, pos, vocab), logits = tools.read_safetensors(out)["logits"]
    losses = []
    for i in range(pos - 1):
        row = logits[i * vocab:(i + 1) * vocab]
        largest = max(row)
        losses.append(largest + math.log(sum(math.exp(x - largest) for x in row)) - row[ids[i + 1]])
    return losses


class EvaluateTest(unittest.TestCase, tools.ToolTest):

    @classmethod
    def setUpClass(cls):
        cls.folder = tools.folder_with_tokenizer(_TEXT, 290)

    def evaluate(self, text, *args):
        done = tools.run("evaluate", "--model=" + self.folder, "--text=" + tools.write("t", text),
                         "--json", *args)
        self.assertEqual(done.code, 0, done.err)
        return done.json()

    def ids(self, text):
        return tools.run("tokenize", "--tokenizer=" + self.folder,
                         stdin=json.dumps(text).encode()).json()

    def test_common(self):
        self.assert_common("evaluate")
        self.assertIn(b"stride", tools.run("evaluate", "--help").out)

    def test_a_text_within_the_context(self):
        text = _TEXT[:100]
        ids = self.ids(text)
        self.assertLess(len(ids), 64)
        got, want = self.evaluate(text), _losses(self.folder, ids)
        self.assertEqual(got["tokens"], len(ids) - 1)
        self.assertAlmostEqual(got["loss"], sum(want) / len(want), places=4)
        self.assertAlmostEqual(got["perplexity"], math.exp(got["loss"]), places=6)
        first = tools.run("tokenize", "--tokenizer=" + self.folder, "--decode",
                          stdin=json.dumps(ids[:1]).encode()).json()
        self.assertEqual(got["bytes"], len(text.encode()) - len(first.encode()))
        self.assertAlmostEqual(got["bits_per_byte"],
                               sum(want) / math.log(2) / got["bytes"], places=4)

    def test_a_text_that_begins_as_the_tokenizer_says(self):
        folder = tools.folder_with_tokenizer(_TEXT, 290)
        tools.begin_texts_with(folder, 260)
        text = _TEXT[:100]
        args = ["evaluate", "--model=" + folder, "--text=" + tools.write("t", text), "--json"]
        ids = tools.run("tokenize", "--tokenizer=" + folder, stdin=json.dumps(text).encode()).json()
        got, want = tools.run(*args).json(), _losses(folder, [260] + ids)
        self.assertEqual((got["tokens"], got["bytes"]), (len(ids), len(text.encode())))
        self.assertAlmostEqual(got["loss"], sum(want) / len(want), places=4)
        plain = tools.run(*args, "--add_special_tokens=false").json()
        self.assertEqual(plain["tokens"], len(ids) - 1)

    def test_windows(self):
        ids = self.ids(_TEXT)
        want, scored = 0, 1
        for begin in range(0, len(ids), 5):
            if scored < len(ids):
                losses = _losses(self.folder, ids[begin:begin + 12])
                want += sum(losses[scored - begin - 1:])
                scored = min(begin + 12, len(ids))
        got = self.evaluate(_TEXT, "--context=12", "--stride=5")
        self.assertEqual(got["tokens"], len(ids) - 1)
        self.assertAlmostEqual(got["loss"], want / (len(ids) - 1), places=4)
        halves = self.evaluate(_TEXT, "--context=12")
        self.assertEqual(halves, self.evaluate(_TEXT, "--context=12", "--stride=6"))

    def test_any_bytes_and_any_number_of_threads(self):
        text = bytes(range(256)) * 3
        one = self.evaluate(text, "--threads=1")
        self.assertEqual(one, self.evaluate(text, "--threads=3"))
        self.assertEqual(one["bytes"], 3 * 256 - 1)

    def test_for_people(self):
        done = tools.run("evaluate", "--model=" + self.folder, "--text=" + tools.write("t", _TEXT))
        self.assertEqual((done.code, done.err), (0, ""))
        for part in (b"nats per token", b"perplexity", b"bits per byte"):
            self.assertIn(part, done.out)

    def test_failures(self):
        def fails(code, text, *args, model=self.folder):
            path = tools.write("t", text)
            done = tools.run("evaluate", "--model=" + model, "--text=" + path, *args)
            return lambda *parts: self.assert_fails(done, code, *parts)

        fails(1, "")("is empty")
        fails(1, "a")("1 token", "at least 2")
        fails(1, _TEXT, "--context=65")("context is 65", "[2, 64]")
        fails(1, _TEXT, "--context=8", "--stride=8")("stride is 8", "[1, 7]")
        fails(2, _TEXT, "--stride=-1")("--stride=-1")
        fails(1, _TEXT, model=tools.golden("gpt2_tiny"))("no tokenizer")
        fails(1, _TEXT, model="/no/such/model")("/no/such/model")
        self.assert_fails(tools.run("evaluate", "--model=" + self.folder, "--text=/no/such/text"),
                          1, "/no/such/text")
        self.assert_fails(tools.run("evaluate", "--model=" + self.folder), 2, "--text")


if __name__ == "__main__":
    run_cases.main()
