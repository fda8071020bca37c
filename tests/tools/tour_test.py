"""Tests of //tools:tour as a user runs it, on models too small and too little trained to find
anything; tour_training_test has the real thing."""

import json
import os
import tempfile
import unittest

from tests.harness import run_cases
from tests.tools import tools

_TEXT = "".join("line %d of a text that says little, and says it again: %d\n" % (i, i * i % 97)
                for i in range(200))
_QUICK = ["--d_model=16", "--n_heads=2", "--context=16", "--batch_size=2", "--vocab_size=256",
          "--max_steps=6", "--measure_every=3"]


class TourTest(unittest.TestCase, tools.ToolTest):

    def setUp(self):
        self.out = os.path.join(tempfile.mkdtemp(dir=os.environ["TEST_TMPDIR"]), "tour")

    def tour(self, text, *args):
        done = tools.run("tour", "--text=" + tools.write("book.txt", text), "--out=" + self.out,
                         *_QUICK, *args)
        self.assertEqual(done.code, 0, done.err)
        return done

    def page(self):
        self.assertEqual(os.listdir(self.out), ["report.html"])
        with open(os.path.join(self.out, "report.html"), encoding="utf-8") as f:
            return f.read()

    def test_help(self):
        shown = tools.run("tour", "--help")
        self.assertEqual((shown.code, shown.err), (0, ""))
        for part in (b"Example:", b"bazel run //tools:tour", b"--text", b"--out", b"--repeat"):
            self.assertIn(part, shown.out)

    def test_json(self):
        done = self.tour(_TEXT, "--json")
        self.assertEqual(done.err, "")
        got = done.json()
        for name, layers in (("two_layer", 2), ("one_layer", 1)):
            model = got[name]
            for scores in ("induction", "previous_token"):
                self.assertEqual([len(row) for row in model[scores]], [2] * layers)
            self.assertEqual(model["best_induction"], max(map(max, model["induction"])))
            self.assertEqual(model["steps"], 6)
            self.assertGreater(model["loss"], 0)
            self.assertIsInstance(model["icl_score"], float)
        self.assertIsInstance(got["induction_heads"], list)
        for key in ("icl_score", "random_icl_score_mean", "ratio"):
            self.assertIn(key, got["ablation"])
        self.assertIn("best_induction", got["previous_token_ablation"])
        self.assertGreater(got["seconds"], 0)
        self.assertEqual(got["report"], os.path.join(self.out, "report.html"))
        page = self.page()
        self.assertIn("book.txt", page)
        self.assertNotIn("http://", page.replace("http://www.w3.org", ""))
        self.assertNotIn('src="https', page)

    def test_terminal(self):
        out = self.tour(_TEXT).out.decode()
        for part in ("Training on book.txt", "L1H1", "One layer, trained alike",
                     os.path.join(self.out, "report.html")):
            self.assertIn(part, out)
        self.page()

    def test_same_seed_same_numbers_for_any_threads(self):
        def numbers(*args):
            got = self.tour(_TEXT, "--json", *args).json()
            del got["seconds"]
            return got

        one = numbers("--seed=7", "--threads=1")
        self.assertEqual(one, numbers("--seed=7", "--threads=3"))
        self.assertNotEqual(one, numbers("--seed=8", "--threads=1"))

    def test_own_text(self):
        done = tools.run("tour", "--out=" + self.out, *_QUICK)
        self.assertEqual(done.code, 0, done.err)
        self.assertIn("own sources and documents", done.out.decode())
        self.page()

    def test_any_bytes_are_a_text(self):
        for text in (bytes(range(256)) * 20, b"a" * 3000, b"<script>alert(1)</script>\r\n" * 90):
            got = self.tour(text, "--json").json()
            self.assertGreaterEqual(got["two_layer"]["best_induction"], 0)
            self.assertNotIn("<script>alert", self.page())

    def test_byte_pairs(self):
        self.tour(_TEXT, "--vocab_size=300")
        self.assertIn("byte-pair encoding", self.page())

    def test_an_old_report_is_replaced_and_kept_on_failure(self):
        self.tour(_TEXT)
        old = self.page()
        failed = tools.run("tour", "--text=" + tools.write("t", ""), "--out=" + self.out)
        self.assertEqual(failed.code, 1)
        self.assertEqual(self.page(), old)
        self.tour(_TEXT, "--seed=3")
        self.assertNotEqual(self.page(), old)

    def fails(self, code, args, *parts):
        done = tools.run("tour", *args)
        self.assert_fails(done, code, "tour: ", *parts)
        self.assertFalse(os.path.exists(self.out), args)

    def test_bad_texts(self):
        out = "--out=" + self.out
        self.fails(1, ["--text=/no/such/file", out], "/no/such/file")
        self.fails(1, ["--text=/", out], "/", "folder")
        self.fails(1, ["--text=" + tools.write("empty.txt", ""), out], "empty.txt", "empty")
        self.fails(1, ["--text=" + tools.write("short.txt", "To be, or not to be"), out],
                   "short.txt", "at least 194")

    def test_a_folder_that_cannot_be_written(self):
        text, file = tools.write("text.txt", _TEXT), tools.write("file", "")
        done = tools.run("tour", "--text=" + text, "--out=" + file + "/tour", *_QUICK)
        self.assert_fails(done, 1, file)
        self.assertTrue(os.path.isfile(file))
        done = tools.run("tour", "--text=" + text, "--out=/proc/tour", *_QUICK)
        self.assert_fails(done, 1, "/proc/tour")

    def test_bad_flags(self):
        text, out = "--text=" + tools.write("text.txt", _TEXT), "--out=" + self.out
        for flag, *parts in (("--n_heads=-1", "integer in [1, 64]"),
                             ("--n_heads=5", "divisor of d_model, 64"),
                             ("--repeat=1.5", "number in [0, 1]"),
                             ("--context=0", "integer in [16"),
                             ("--vocab_size=255", "integer in [256"),
                             ("--max_steps=0", "integer in [1"),
                             ("--learning_rate=0", "number in ["),
                             ("--contxt=3", "did you mean 'context'?"),
                             ("stray", "unexpected argument 'stray'")):
            self.fails(2, [text, out, flag], *parts)


if __name__ == "__main__":
    run_cases.main()
