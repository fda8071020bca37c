"""Tests of //tools:edges as a user runs it."""

import os
import tempfile
import unittest

from tests.harness import run_cases
from tests.tools import tools

_TRAINED = os.path.join("interp", "testdata", "trained_induction")
_TASK = ("--model=" + _TRAINED, "--task=induction", "--rows=16", "--length=24", "--seed=3")
_TRUTH = ["L0H0->L1H0.k", "L1H0->logits", "embed->L0H0.v"]


def _path(name):
    return os.path.join(tempfile.mkdtemp(dir=os.environ["TEST_TMPDIR"]), name)


class EdgesTest(unittest.TestCase, tools.ToolTest):

    def found(self, *args):
        done = tools.run("edges", *_TASK, "--json", *args)
        self.assertEqual((done.code, done.err), (0, ""))
        return done.json()

    def circuit(self, found):
        return sorted(edge["edge"] for edge in found["circuit"]["edges"])

    def test_common(self):
        self.assert_common("edges")

    def test_every_method_finds_the_circuit_of_a_trained_model(self):
        for method in ("eap", "eap_ig_inputs", "eap_ig_activations", "clean_corrupted", "exact"):
            with self.subTest(method=method):
                found = self.found("--method=" + method, "--top=3", "--sets=5")
                self.assertEqual((found["edges"], found["method"]), (12, method))
                self.assertIn("L1H0->logits", self.circuit(found))
                self.assertEqual(len(found["random"]["faithfulness"]), 5)
                self.assertEqual([point["edges"] for point in found["curve"]], [1, 2, 5, 10, 12])
                # All edges are the model.
                self.assertAlmostEqual(found["curve"][-1]["faithfulness"], 1, places=4)
                self.assertAlmostEqual(found["curve"][-1]["metric"], found["clean"], places=3)
        self.assertEqual(self.circuit(self.found("--top=3", "--sets=0")), _TRUTH)

    def test_acdc(self):
        found = self.found("--method=acdc", "--metric=loss", "--threshold=0.2")
        self.assertEqual(self.circuit(found), sorted(_TRUTH + ["embed->L1H0.k"]))
        self.assertLess(found["runs"], 13)
        self.assertGreater(found["circuit"]["faithfulness"], 0.9)
        self.assertLess(found["random"]["p_value"], 0.2)
        done = tools.run("edges", *_TASK, "--method=acdc")
        self.assert_fails(done, 2, "--metric=kl or --metric=loss")

    def test_exact_scores_are_gone_on_from_a_journal(self):
        journal, straight, out = _path("journal"), _path("a"), _path("b")
        flags = ("--model=" + tools.golden("gpt2_tiny"), "--task=induction", "--rows=2",
                 "--method=exact", "--sets=0", "--curve=1", "--json")
        edges = tools.run("edges", *flags, "--out=" + straight).json()["edges"]
        self.assertGreater(edges, 50)
        first = tools.run("edges", *flags, "--journal=" + journal, "--out=" + out)
        self.assertEqual((first.code, first.err), (0, ""))
        with open(straight, "rb") as a, open(out, "rb") as b:
            self.assertEqual(a.read(), b.read())
        # Half of it, as a kill leaves it.
        os.truncate(journal, os.path.getsize(journal) // 2)
        again = tools.run("edges", *flags, "--journal=" + journal, "--out=" + out)
        self.assertEqual((again.code, again.err), (0, ""))
        with open(straight, "rb") as a, open(out, "rb") as b:
            self.assertEqual(a.read(), b.read())
        done = tools.run("edges", *flags, "--journal=" + journal, "--gradient=corrupted")
        self.assert_fails(done, 1, journal, "'gradient' is \"clean\" there")
        for more in (["--method=eap"], ["--sender=embed", "--receiver=logits"]):
            done = tools.run("edges", *flags, "--journal=" + journal, *more)
            self.assert_fails(done, 2, "--journal", "--method=exact")

    def test_signs(self):
        exact = {}
        for gradient in ("clean", "corrupted"):
            found = self.found("--method=exact", "--gradient=" + gradient, "--top=12", "--sets=0")
            exact[gradient] = {e["edge"]: e["score"] for e in found["circuit"]["edges"]}
        # Breaking the way to the logits loses what mending it brings back.
        self.assertLess(exact["clean"]["L1H0->logits"], -1)
        self.assertGreater(exact["corrupted"]["L1H0->logits"], 1)

    def test_files(self):
        out, page = _path("scores.safetensors"), _path("page.html")
        found = self.found("--out=" + out, "--report=" + page, "--curve=2,4", "--top=4")
        self.assertEqual(sorted(found["seconds"]), ["circuit", "score"])
        self.assertEqual((found["out"], found["report"]), (out, page))
        self.assertEqual([point["edges"] for point in found["curve"]], [2, 4])
        tensors = tools.read_safetensors(out)
        self.assertEqual(tensors["result"][0], [12])
        self.assertEqual(tensors["by_example"][0], [12, 16])
        for edge in range(12):
            rows = tensors["by_example"][1][16 * edge:16 * edge + 16]
            self.assertAlmostEqual(sum(rows) / 16, tensors["result"][1][edge], places=4)
        self.assertEqual(len(tools.read_integers(out, "writer")), 12)
        self.assertEqual(len(tools.read_integers(out, "clean_ids")), 16 * 24)
        with open(page, encoding="utf-8") as f:
            text = f.read()
        for part in ("The circuit", "How faithful it is", "L1H0", "random circuit"):
            self.assertIn(part, text)

    def test_paths(self):
        out = _path("paths.safetensors")
        found = self.found("--sender=L0H0,embed", "--receiver=L1H0.q,L1H0.k,logits", "--out=" + out)
        self.assertEqual(found["senders"], ["L0H0", "embed"])
        span = found["clean"] - found["corrupted"]
        shares = [[(v - found["corrupted"]) / span for v in row] for row in found["values"]]
        self.assertGreater(shares[0][1], 0.25)  # of the head to the keys
        for other in (shares[0][0], shares[0][2], shares[1][0], shares[1][1], shares[1][2]):
            self.assertLess(other, 0.2)
        self.assertEqual(tools.read_safetensors(out)["result"][0], [2, 3])
        every = self.found("--sender=all", "--receiver=all", "--frozen_norm")
        self.assertEqual((len(every["senders"]), len(every["receivers"])), (3, 7))
        self.assertFalse(every["connected"][2][0])  # a later head does not write to an earlier one

    def test_prompts_that_do_not_differ(self):
        same = tools.write_token_file([1, 5, 9, 5])
        report = _path("same.html")
        flags = ("--model=" + _TRAINED, "--clean=" + same, "--corrupted=" + same, "--answer=9",
                 "--wrong=1", "--sets=3", "--report=" + report)
        done = tools.run("edges", *flags)
        self.assertEqual(done.code, 0, done.err)
        self.assertIn(b"the same metric", done.out)
        self.assertNotIn(b"nan", done.out)
        self.assertIsNone(tools.run("edges", *flags, "--json").json()["circuit"]["faithfulness"])
        with open(report, encoding="utf-8") as f:
            # Of the circuit and of the best random one.
            self.assertEqual(f.read().count(">undefined<"), 2)

    def test_what_is_wrong_is_named(self):
        def fails(code, *args, parts):
            self.assert_fails(tools.run("edges", *_TASK, *args), code, *parts)

        fails(2, "--sender=L0H0", parts=["--sender and --receiver"])
        fails(2, "--sender=L1H0", "--receiver=L0H0.q", parts=["no path"])
        fails(2, "--sender=L0H9", "--receiver=logits", parts=["'L0H9'", "did you mean 'L0H0'"])
        fails(2, "--sender=L0H0", "--receiver=logit", parts=["did you mean 'logits'?"])
        fails(2, "--curve=13", parts=["--curve: '13'", "[1, 12]"])
        fails(2, "--method=eapp", parts=["--method"])
        fails(2, "--answer=3", parts=["leave out"])
        fails(2, "--steps=0", parts=["--steps"])
        # Mamba reads and writes whole mixers: a graph without heads.
        mamba = tools.run("edges", "--model=" + tools.golden("mamba_auto"), "--task=induction",
                          "--rows=2", "--length=8", "--sets=1", "--json")
        self.assertEqual(mamba.code, 0, mamba.err)
        self.assertEqual(mamba.json()["writers"], 4)


if __name__ == "__main__":
    run_cases.main()
