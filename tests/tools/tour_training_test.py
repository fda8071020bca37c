"""The tour as it comes: it finds induction heads and proves them, and one layer has none."""

import os
import unittest

from tests.harness import run_cases
from tests.tools import tools


class TourTrainingTest(unittest.TestCase):

    def test_on_the_projects_own_text(self):
        out = os.path.join(os.environ["TEST_TMPDIR"], "tour")
        done = tools.run("tour", "--out=" + out, "--json")
        self.assertEqual(done.code, 0, done.err)
        got = done.json()
        print(got["seconds"], "seconds,", got["two_layer"]["steps"], "steps, induction",
              got["two_layer"]["best_induction"], "ablation", got["ablation"])
        self.assertGreaterEqual(got["two_layer"]["best_induction"], 0.5)
        self.assertLess(got["one_layer"]["best_induction"], 0.15)
        self.assertTrue(all(layer == 1 for layer, _ in got["induction_heads"]))
        self.assertTrue(got["previous_token_heads"])
        self.assertTrue(all(layer == 0 for layer, _ in got["previous_token_heads"]))
        # In-context learning collapses without them and stays without others.
        ablation = got["ablation"]
        self.assertLess(ablation["intact_icl_score"], -1)
        self.assertGreater(ablation["icl_score"], ablation["intact_icl_score"] / 2)
        self.assertGreaterEqual(ablation["ratio"], 5)
        self.assertLess(got["previous_token_ablation"]["best_induction"],
                        got["two_layer"]["best_induction"] / 2)
        # The weights say the same: the best induction head copies, looks for its own kind, and
        # reads what the previous-token head wrote.
        circuits = got["circuits"]
        (layer, head), (below, previous) = got["induction_heads"][0], got["previous_token_heads"][0]
        self.assertGreater(circuits["ov_copying"][layer][head], 0.5)
        self.assertGreater(circuits["qk_matching"], 0.5)
        self.assertGreater(circuits["k_composition"][below][previous][layer][head],
                           1.5 * circuits["k_baseline"])


if __name__ == "__main__":
    run_cases.main()
