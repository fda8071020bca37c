"""Tests of //tools:tokenize as a user runs it."""

import json
import os
import random
import tempfile
import unittest

from tests.harness import run_cases
from tests.tools import tools

_TEXT = "the cat sat on the mat, the cat's mat \u00e9\u00e9 \u4e2d\u6587 <|x|>\n" * 3


class TokenizeTest(unittest.TestCase, tools.ToolTest):

    @classmethod
    def setUpClass(cls):
        cls.folder = os.path.join(tempfile.mkdtemp(dir=os.environ["TEST_TMPDIR"]), "new", "folder")
        cls.learned = tools.run("tokenize", "--learn=" + tools.write("t", _TEXT),
                                "--vocab_size=280", "--tokenizer=" + cls.folder, "--json")

    def tokenize(self, lines, *args, tokenizer=None):
        return tools.run("tokenize", "--tokenizer=" + (tokenizer or self.folder), *args,
                         stdin="".join(json.dumps(line) + "\n" for line in lines).encode())

    def test_common(self):
        self.assert_common("tokenize")

    def test_learns(self):
        self.assertEqual(self.learned.code, 0, self.learned.err)
        self.assertEqual(self.learned.json(), {
            "vocab_size": 280, "tokenizer": os.path.join(self.folder, "tokenizer.json")})
        with open(os.path.join(self.folder, "tokenizer.json"), encoding="utf-8") as f:
            model = json.load(f)["model"]
        self.assertEqual(sorted(model["vocab"].values()), list(range(280)))
        self.assertEqual(len(model["merges"]), 24)

    def test_there_and_back(self):
        rng = random.Random(1)
        texts = ["", " ", "\n\u2028\u0085", "a\u0000b", _TEXT] + [
            "".join(chr(rng.choice((rng.randrange(128), rng.randrange(0xD800),
                                    rng.randrange(0x10000, 0x110000)))) for _ in range(20))
            for _ in range(50)]
        encoded = self.tokenize(texts)
        self.assertEqual((encoded.code, encoded.err), (0, ""))
        ids = encoded.lines()
        self.assertEqual(len(ids), len(texts))
        self.assertEqual(ids[0], [])
        # A file names the tokenizer as well as its folder does.
        path = os.path.join(self.folder, "tokenizer.json")
        self.assertEqual(self.tokenize(ids, "--decode", tokenizer=path).lines(), texts)
        self.assertLess(len(ids[4]), len(_TEXT.encode()) // 2)

    def test_half_a_character(self):
        half = self.tokenize(["\u2200"]).lines()[0][:1]  # not in the text, so three bytes
        self.assertEqual(self.tokenize([half], "--decode").json(), "\ufffd")

    def test_special_tokens(self):
        with open(os.path.join(self.folder, "tokenizer.json"), encoding="utf-8") as f:
            description = json.load(f)
        description["added_tokens"] = [{"id": 280, "content": "<|x|>", "special": True}]
        path = tools.write("tokenizer.json", json.dumps(description))
        self.assertEqual(self.tokenize(["<|x|>"], tokenizer=path).json(), [280])
        self.assertEqual(self.tokenize([[280]], "--decode", tokenizer=path).json(), "<|x|>")
        self.assertEqual(self.tokenize([[280]], "--decode", "--skip_special_tokens",
                                       tokenizer=path).json(), "")

    def test_bad_lines(self):
        for line, args in ((b"hello", ()), (b"[1]", ()), (b"\"a", ()), (b"\"a\"", ("--decode",)),
                           (b"[280]", ("--decode",)), (b"[-1]", ("--decode",)),
                           (b"[1.5]", ("--decode",)), (b"\"\xff\"", ())):
            done = tools.run("tokenize", "--tokenizer=" + self.folder, *args, stdin=line + b"\n")
            self.assert_fails(done, 1, "line 1", "expected")
        done = tools.run("tokenize", "--tokenizer=" + self.folder, stdin=b"\"a\"\n7\n")
        self.assertEqual(done.code, 1)
        self.assertIn("line 2", done.err)

    def test_failures(self):
        empty = tempfile.mkdtemp(dir=os.environ["TEST_TMPDIR"])
        self.assert_fails(self.tokenize(["a"], tokenizer=empty), 1, empty, "no tokenizer")
        self.assert_fails(self.tokenize(["a"], tokenizer="/no/such"), 1, "/no/such")
        bad = tools.write("tokenizer.json", "{\"model\": 1}")
        self.assert_fails(self.tokenize(["a"], tokenizer=bad), 1, bad, "model.type")
        text = tools.write("t", _TEXT)
        for args, code, part in (
                (["--learn=/no/such"], 1, "/no/such"),
                (["--learn=" + tools.write("t", "")], 1, "is empty"),
                (["--learn=" + text, "--vocab_size=255"], 2, "[256, "),
                (["--learn=" + text, "--decode"], 2, "--decode")):
            self.assert_fails(tools.run("tokenize", "--tokenizer=" + empty, *args), code, part)
        self.assertEqual(os.listdir(empty), [])  # nothing half-written


if __name__ == "__main__":
    run_cases.main()
