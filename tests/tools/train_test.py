"""Tests of //tools:train as a user runs it. What must survive crashes: //tests/reliability."""

import json
import math
import os
import tempfile
import unittest

from tests.harness import run_cases
from tests.tools import tools

_TEXT = "".join("the cat number %d sat on mat %d\n" % (i, i % 7) for i in range(300))
_SMALL = ["--d_model=16", "--n_layers=1", "--n_heads=2", "--context=16", "--batch_size=4",
          "--steps=20", "--eval_every=10", "--eval_batches=2", "--warmup_steps=5"]


class TrainTest(unittest.TestCase, tools.ToolTest):

    def setUp(self):
        self.text = tools.write("text.txt", _TEXT)
        self.folder = tempfile.mkdtemp(dir=os.environ["TEST_TMPDIR"])
        self.out = os.path.join(self.folder, "run")

    def train(self, *args):
        """A run that succeeds, with --json: its summary."""
        done = tools.run("train", "--out=" + self.out, "--json", *args)
        self.assertEqual((done.code, done.err), (0, ""))
        return done.json()

    def refused(self, code, args, *parts):
        """The error, and that nothing was written."""
        self.assert_fails(tools.run("train", "--out=" + self.out, *args), code, *parts)
        self.assertEqual(os.listdir(self.folder), [])

    def test_common(self):
        self.assert_common("train")
        shown = tools.run("train", "--help").out
        for part in (b"attn_only", b"gpt2", b"--resume", b"d_model=", b"schedule=cosine"):
            self.assertIn(part, shown)

    def test_every_model_learns_and_opens(self):
        for model in ("attn_only", "gpt2", "llama"):
            with self.subTest(model):
                self.out = os.path.join(self.folder, model)
                summary = self.train("--model=" + model, "--text=" + self.text, "--lr=0.01",
                                     *_SMALL, "--steps=60")
                self.assertEqual(summary["steps"], 60)
                self.assertFalse(summary["stopped"])
                self.assertEqual(summary["tokens"], 60 * 4 * 16)
                self.assertLess(summary["eval_loss"], math.log(256) - 1)
                shown = tools.run("inspect", "--model=" + self.out, "--json").json()
                self.assertEqual(shown["n_parameters"], summary["n_parameters"])
                # The last two are saved as Hugging Face's are.
                config = shown["config"]
                self.assertEqual(config["model_type"],
                                 {"attn_only": "residual"}.get(model, model))
                self.assertEqual(config.get("d_vocab", config.get("vocab_size")), 256)
                for folder in (self.out, summary["checkpoint"]):
                    said = tools.run("generate", "--model=" + folder, "--prompt=the cat",
                                     "--max_new_tokens=4", "--json")
                    self.assertEqual((said.code, said.err), (0, ""))
                    self.assertEqual(len(said.json()["tokens"]), 4)

    def test_what_a_run_leaves(self):
        self.train("--model=gpt2", "--text=" + self.text, "--tokenizer=bpe:270", *_SMALL)
        self.assertEqual(
            sorted(os.listdir(self.out)),
            ["checkpoints", "config.json", "metrics.jsonl", "model.safetensors", "tokenizer.json",
             "tokenizer_config.json", "train.json"])
        with open(os.path.join(self.out, "metrics.jsonl"), encoding="ascii") as f:
            lines = [json.loads(line) for line in f]
        self.assertEqual([line["step"] for line in lines], list(range(1, 21)))
        for line in lines:
            self.assertEqual("eval_loss" in line, line["step"] in (10, 20))
            self.assertEqual(line["tokens"], line["step"] * 64)
            self.assertGreater(line["tokens_per_second"], 0)
        with open(os.path.join(self.out, "train.json"), encoding="ascii") as f:
            settings = json.load(f)
        self.assertEqual((settings["model"], settings["d_model"], settings["tokenizer"]),
                         ("gpt2", 16, "bpe:270"))
        self.assertEqual(settings["text"], self.text)
        self.assertEqual(settings["text_bytes"], len(_TEXT))

    def test_a_train_json_is_a_config(self):
        self.train("--model=gpt2", "--text=" + self.text, "--seed=3", *_SMALL)
        first = tools.read_safetensors(os.path.join(self.out, "model.safetensors"))
        config = os.path.join(self.out, "train.json")
        self.out = os.path.join(self.folder, "again")
        self.train("--config=" + config)
        self.assertEqual(tools.read_safetensors(os.path.join(self.out, "model.safetensors")), first)
        self.out = os.path.join(self.folder, "other")
        self.train("--config=" + config, "--seed=4")
        self.assertNotEqual(tools.read_safetensors(os.path.join(self.out, "model.safetensors")),
                            first)

    def test_mixed_precision(self):
        self.train("--model=gpt2", "--text=" + self.text, *_SMALL)
        exact = tools.read_safetensors(os.path.join(self.out, "model.safetensors"))
        self.out = os.path.join(self.folder, "mixed")
        summary = self.train("--model=gpt2", "--text=" + self.text, "--precision=bf16", *_SMALL)
        self.assertLess(summary["loss"], math.log(256))
        mixed = tools.read_safetensors(os.path.join(self.out, "model.safetensors"))
        self.assertEqual({name: item[0] for name, item in mixed.items()},
                         {name: item[0] for name, item in exact.items()})
        self.assertNotEqual(mixed, exact)
        self.assert_fails(
            tools.run("train", "--resume", "--out=" + self.out, "--precision=f32"), 2,
            "--resume: precision is", "train.json")

    def test_task(self):
        summary = self.train("--model=attn_only", "--task=repeated_tokens", "--d_vocab=8",
                             "--lr=0.01", *_SMALL)
        self.assertTrue(math.isfinite(summary["loss"]))
        self.assertNotIn("tokenizer.json", os.listdir(self.out))
        shown = tools.run("inspect", "--model=" + self.out, "--json").json()
        self.assertEqual(shown["config"]["d_vocab"], 8)

    def test_relative_paths_are_the_users(self):
        done = tools.run("train", "--model=attn_only", "--text=" + os.path.basename(self.text),
                         "--out=" + os.path.relpath(self.out, os.path.dirname(self.text)), *_SMALL,
                         env={"BUILD_WORKING_DIRECTORY": os.path.dirname(self.text)})
        self.assertEqual((done.code, done.err), (0, ""))
        self.assertIn("model.safetensors", os.listdir(self.out))
        self.assertIn(b"done: step 20", done.out)

    def test_bad_usage(self):
        text = "--text=" + self.text
        for args, parts in (
                ([text], ["--model is missing", "attn_only, gpt2"]),
                (["--model=gpt3", text], ["--model=gpt3", "did you mean 'gpt2'"]),
                (["--model=gpt2"], ["neither --text nor --task nor --labeled"]),
                (["--model=gpt2", text, "--task=repeated_tokens"], ["more than one of --text, --task and --labeled"]),
                (["--model=gpt2", "--task=induction"], ["--task=induction", "repeated_tokens"]),
                (["--model=gpt2", text, "--n_layers=-1"], ["'n_layers' is -1", "[1, 4096]"]),
                (["--model=gpt2", text, "--n_heads=7"], ["'n_heads' is 7", "divisor of 'd_model'"]),
                (["--model=gpt2", text, "--d_modle=8"], ["--d_modle", "did you mean 'd_model'"]),
                (["--model=gpt2", text, "--lr=fast"], ["--lr=fast", "a number"]),
                (["--model=gpt2", text, "--dropout=2"], ["dropout' is 2", "[0.0, 1.0]"]),
                (["--model=gpt2", text, "--positions=rotery"], ["did you mean 'rotary'"]),
                (["--model=gpt2", text, "--precision=fp16"], ["'precision'", "bf16"]),
                (["--model=gpt2", text, "--tokenizer=bpe:9"], ["--tokenizer=bpe:9", "256"]),
                (["--model=gpt2", text, "--d_vocab=5"], ["--d_vocab=5", "256 tokens"]),
                (["--model=gpt2", text, "--d_model=65536", "--d_head=64", "--n_layers=4"],
                 ["parameters", "GB"]),
                (["--model=gpt2", text, "--batch_size=1000000"], ["batch_size 1000000", "GB"]),
        ):
            with self.subTest(args[-1]):
                self.refused(2, args, *parts)

    def test_bad_files(self):
        missing = os.path.join(os.path.dirname(self.text), "none.txt")
        self.refused(1, ["--model=gpt2", "--text=" + missing], missing, "No such file")
        empty = tools.write("empty.txt", "")
        self.refused(1, ["--model=gpt2", "--text=" + empty], empty, "is empty, expected a text")
        short = tools.write("short.txt", "a few words")
        self.refused(1, ["--model=gpt2", "--text=" + short], short,
                     "has 11 tokens, expected at least 258")
        self.refused(1, ["--model=gpt2", "--text=" + os.path.dirname(short)], "is a folder")
        self.refused(1, ["--config=" + missing, "--text=" + self.text], missing)
        bad = tools.write("bad.json", '{"model": "gpt2", "d_modle": 8}')
        self.refused(2, ["--config=" + bad, "--text=" + self.text], bad, "did you mean 'd_model'")

    def test_folders_that_cannot_be(self):
        done = tools.run("train", "--model=gpt2", "--text=" + self.text, "--out=" + self.text)
        self.assert_fails(done, 1, self.text, "is a file, expected a folder")
        done = tools.run("train", "--model=gpt2", "--text=" + self.text, "--out=/proc/run")
        self.assert_fails(done, 1, "/proc/run")
        with open(self.text, encoding="ascii") as f:
            self.assertEqual(f.read(), _TEXT)

    def test_resume(self):
        self.assert_fails(tools.run("train", "--resume", "--out=" + self.out), 1,
                          "has no run to resume")
        summary = self.train("--model=gpt2", "--text=" + self.text, "--seed=2", *_SMALL)
        again = self.train("--resume", "--model=gpt2", "--seed=2", "--d_model=16")
        self.assertEqual((again["resumed_from"], again["steps"]), (20, 20))
        self.assertEqual(again["n_parameters"], summary["n_parameters"])
        for args, part in ((["--lr=0.5"], "lr is 0.5"), (["--model=attn_only"], "model is"),
                           (["--steps=40"], "steps is 40"), (["--seed=1"], "seed is 1")):
            self.assert_fails(tools.run("train", "--resume", "--out=" + self.out, *args), 2,
                              "--resume: " + part, "train.json")
        self.assert_fails(
            tools.run("train", "--model=gpt2", "--text=" + self.text, "--out=" + self.out), 2,
            "has a run already", "--resume")

    def test_resume_with_another_text(self):
        self.train("--model=gpt2", "--text=" + self.text, *_SMALL)
        moved = tools.write("moved.txt", _TEXT)
        os.remove(self.text)
        self.assert_fails(tools.run("train", "--resume", "--out=" + self.out), 1, self.text)
        self.train("--resume", "--text=" + moved)
        other = tools.write("other.txt", _TEXT.replace("cat", "dog"))
        self.assert_fails(tools.run("train", "--resume", "--out=" + self.out, "--text=" + other), 1,
                          other, "crc32")


if __name__ == "__main__":
    run_cases.main()
