"""Classifiers as a user has them: trained, resumed, inspected, evaluated, looked into."""

import os
import shutil
import struct
import tempfile
import unittest

from tests.harness import run_cases
from tests.tools import tools

_DATA = "digits,rows=120,test_rows=40,side=8,pool=2"
_SMALL = ["--model=s4d", "--d_model=16", "--d_state=8", "--n_layers=1", "--batch_size=20",
          "--eval_every=10", "--validation_rows=20", "--warmup_steps=5", "--lr=0.02"]


def _folder():
    return tempfile.mkdtemp(dir=os.environ["TEST_TMPDIR"])


def _bytes(path):
    with open(path, "rb") as f:
        return f.read()


class ClassifierTest(unittest.TestCase, tools.ToolTest):

    @classmethod
    def setUpClass(cls):
        cls.model = os.path.join(_folder(), "run")
        done = tools.run("train", *_SMALL, "--labeled=" + _DATA, "--steps=60", "--out=" + cls.model,
                         "--json")
        if done.code:
            raise AssertionError(done.err)
        cls.summary = done.json()

    def evaluate(self, model, data, *args):
        done = tools.run("evaluate", "--model=" + model, "--labeled=" + data, "--json", *args)
        self.assertEqual((done.code, done.err), (0, ""))
        return done.json()

    def test_learns_and_is_measured_as_it_said(self):
        self.assertEqual(self.summary["steps"], 60)
        self.assertGreater(self.summary["validation_accuracy"], 0.2)
        got = self.evaluate(self.model, _DATA)
        self.assertEqual((got["rows"], got["of"]), (40, "test"))
        self.assertEqual(got["accuracy"], self.summary["test_accuracy"])
        self.assertGreater(got["accuracy"], 0.2)
        self.assertEqual(sum(c["rows"] for c in got["classes"]), 40)
        self.assertEqual(sum(c["right"] for c in got["classes"]) / 40, got["accuracy"])
        trained = self.evaluate(self.model, _DATA, "--rows=train", "--precision=bf16")
        self.assertEqual((trained["rows"], trained["of"]), (120, "train"))
        shown = tools.run("evaluate", "--model=" + self.model, "--labeled=" + _DATA)
        self.assertIn(b"accuracy ", shown.out)

    def test_resumes_to_the_same_bits(self):
        out = os.path.join(_folder(), "run")
        args = _SMALL + ["--labeled=" + _DATA, "--steps=60", "--checkpoint_every=20"]
        # What a run leaves that was killed after step 20.
        self.assertEqual(tools.run("train", *args, "--out=" + out).code, 0)
        whole = _bytes(os.path.join(out, "model.safetensors"))
        checkpoints = os.path.join(out, "checkpoints")
        self.assertEqual(sorted(os.listdir(checkpoints)), ["checkpoint-40", "checkpoint-60"])
        shutil.rmtree(os.path.join(checkpoints, "checkpoint-60"))
        os.remove(os.path.join(out, "model.safetensors"))
        done = tools.run("train", "--resume", "--out=" + out, "--json")
        self.assertEqual((done.code, done.err), (0, ""))
        self.assertEqual(done.json()["resumed_from"], 40)
        self.assertEqual(_bytes(os.path.join(out, "model.safetensors")), whole)
        self.assertEqual(whole, _bytes(os.path.join(self.model, "model.safetensors")))
        # A checkpoint is a model too.
        self.evaluate(os.path.join(checkpoints, "checkpoint-40"), _DATA)
        for other, part in (("digits,rows=121,test_rows=40,side=8,pool=2", "the run began with 120"),
                            ("digits,rows=120,test_rows=40,side=8,pool=2,seed=1", "crc32")):
            self.assert_fails(tools.run("train", "--resume", "--out=" + out, "--labeled=" + other),
                              1, part)
        self.assert_fails(tools.run("train", "--resume", "--out=" + out, "--lr=1"), 2, "lr is 1")

    def test_inspect(self):
        shown = tools.run("inspect", "--model=" + self.model, "--json").json()
        self.assertEqual(shown["config"]["model_type"], "residual_classifier")
        self.assertEqual(shown["n_parameters"], self.summary["n_parameters"])
        shapes = {p["name"]: p["shape"] for p in shown["parameters"]}
        self.assertEqual(shapes["head"], [16, 10])
        names = [h["name"] for h in shown["hook_points"]]
        self.assertIn("hook_pooled", names)
        self.assertIn("blocks.0.mixer.hook_state", names)

    def test_activations(self):
        values = [((7 * i) % 11) / 11 for i in range(2 * 16)]
        rows = tools.write_safetensors({"values": ([2, 16, 1], values), "flat": ([32], values)})
        out = os.path.join(_folder(), "out.safetensors")
        args = ["activations", "--model=" + self.model, "--tokens=" + rows, "--out=" + out]
        done = tools.run(*args, "--input=values", "--names=*mixer.hook_state,hook_pooled")
        self.assertEqual((done.code, done.err), (0, ""))
        got = tools.read_safetensors(out)
        self.assertEqual(sorted(got), ["blocks.0.mixer.hook_state", "hook_pooled", "logits"])
        self.assertEqual(got["logits"][0], [2, 10])
        self.assertEqual(got["blocks.0.mixer.hook_state"][0][:3], [2, 16, 16])
        for more, code, part in (
                (["--input=values", "--names=hook_poled"], 2, "did you mean 'hook_pooled'"),
                (["--input=values", "--layers=0"], 2, "of a classifier --names alone"),
                ([], 1, "no tensor 'input_ids'"),
                (["--input=flat"], 1, "expected values [batch, pos, 1]")):
            self.assert_fails(tools.run(*args, *more), code, part)

    def test_texts_and_other_data(self):
        texts = _folder()
        for i in range(40):
            for name in ("yes", "no"):
                os.makedirs(os.path.join(texts, name), exist_ok=True)
                with open(os.path.join(texts, name, "%d" % i), "w", encoding="ascii") as f:
                    f.write("abc"[:1 + i % 3] + ("!" if name == "yes" else "?") + "de"[:i % 2])
        for data, length in (("texts:" + texts, 5),
                             ("list_ops,rows=60,test_rows=20,max_length=12,max_depth=3", None),
                             ("pathfinder,rows=30,test_rows=10,pool=4", 64)):
            with self.subTest(data):
                out = os.path.join(_folder(), "run")
                done = tools.run("train", *_SMALL, "--labeled=" + data, "--steps=30",
                                 "--batch_size=10", "--validation_rows=10", "--out=" + out, "--json")
                self.assertEqual((done.code, done.err), (0, ""))
                got = self.evaluate(out, data)
                self.assertGreaterEqual(got["accuracy"], 0)
                config = tools.run("inspect", "--model=" + out, "--json").json()["config"]
                if length is not None:
                    self.assertEqual(config["body"]["n_ctx"], length)
                if data.startswith("texts"):
                    self.assertEqual(config["classes"], ["no", "yes"])
                    self.assertEqual(got["accuracy"], 1)
                    # By the names of the classes, wherever they lie.
                    shutil.rmtree(os.path.join(texts, "no"))
                    self.assert_fails(
                        tools.run("evaluate", "--model=" + out, "--labeled=" + data), 1, "no")

    def test_bad_usage(self):
        out = "--out=" + os.path.join(_folder(), "run")
        for args, code, part in (
                (["--labeled=digit"], 2, "did you mean 'digits'"),
                (["--labeled=idx"], 2, "the path is missing"),
                (["--labeled=idx:/nowhere"], 1, "/nowhere"),
                (["--labeled=digits,rows=40", "--task=induction_heads"], 2, "more than one of"),
                (["--labeled=digits,rows=40", "--context=64"], 2, "--context is for texts and tasks"),
                (["--labeled=digits,rows=40,side=4", "--validation_rows=40"], 2, "--validation_rows"),
                (["--labeled=digits,rows=40,side=4", "--validation_rows=30"], 2,
                 "--batch_size=20, expected 1 to the 10 rows"),
                (["--labeled=digits,rows=40,side=4", "--pooling=max"], 2, "'pooling' is \"max\""),
                (["--labeled=digits,rows=40,side=4", "--positions=standard"], 2,
                 "'positions' is \"standard\"")):
            with self.subTest(args):
                self.assert_fails(tools.run("train", *_SMALL, *args, out), code, part)
        self.assert_fails(tools.run("train", "--model=s4d", "--task=induction_heads",
                                    "--pooling=last", out), 2, "--pooling is for labelled data")
        model = "--model=" + self.model
        for args, code, part in (
                ([], 2, "--text or --labeled is needed"),
                (["--labeled=digits", "--text=x"], 2, "both given"),
                (["--text=" + tools.write("t", "text")], 1, "a classifier"),
                (["--labeled=digits,rows=5,test_rows=5"], 1, "length is 784, expected 1 to the model's 16"),
                (["--labeled=" + _DATA, "--dtype=bf16"], 2, "--dtype"),
                (["--labeled=list_ops,rows=5,test_rows=5,max_length=9,max_depth=3"], 1, "channels")):
            with self.subTest(args):
                self.assert_fails(tools.run("evaluate", model, *args), code, part)
        self.assert_fails(tools.run("evaluate", "--model=" + tools.golden("gpt2_tiny"),
                                    "--labeled=" + _DATA), 1, "gpt2", "residual_classifier")

    def test_broken_folders(self):
        broken = os.path.join(_folder(), "model")
        shutil.copytree(self.model, broken)
        path = os.path.join(broken, "model.safetensors")
        whole = _bytes(path)
        with open(path, "wb") as f:
            f.write(whole[:-4])
        for tool in ("inspect", "evaluate"):
            more = [] if tool == "inspect" else ["--labeled=" + _DATA]
            self.assert_fails(tools.run(tool, "--model=" + broken, *more), 1, path)
        size = struct.unpack("<Q", whole[:8])[0]
        with open(path, "wb") as f:
            f.write(whole[:8] + whole[8:8 + size].replace(b'"head"', b'"heat"') + whole[8 + size:])
        self.assert_fails(tools.run("inspect", "--model=" + broken), 1, "missing 'head'")


if __name__ == "__main__":
    run_cases.main()
