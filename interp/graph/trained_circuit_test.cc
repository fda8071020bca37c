// The tools against a circuit that was trained, not planted: two layers of one head that repeat
// what they have read. The head of layer 0 looks at the token before, and through its output the
// keys of the head of layer 1 are found (Elhage et al. 2021; Olsson et al. 2022).

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "interp/graph/circuit.h"
#include "interp/patch/session.h"
#include "interp/patch/sweep.h"
#include "interp/paths/paths.h"
#include "interp/tasks/prompt_pairs.h"
#include "models/zoo/zoo.h"

namespace residual {
namespace {

double MeanOf(const std::vector<double>& x) {
  return std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size());
}

class TrainedCircuitTest : public testing::Test {
 protected:
  TrainedCircuitTest() {
    auto loaded = LoadModel("interp/testdata/trained_induction");
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    model_ = std::move(loaded->model);
    PromptTaskOptions options;
    options.rows = 32;
    options.induction_length = 16;
    const PromptPairs pairs = *MakePromptPairs("induction", nullptr, model_->d_vocab(), options);
    clean_.tokens = pairs.clean;
    corrupted_.tokens = pairs.corrupted;
    metric_ = LogitDifference(pairs.answer, pairs.wrong);
    answer_ = pairs.answer;
    session_ = std::make_unique<PatchSession>(*PatchSession::Create(*model_, clean_, corrupted_));
    clean_mean_ = MeanOf(*session_->Clean(metric_));
    corrupted_mean_ = MeanOf(*session_->Corrupted(metric_));
  }

  // The share of the difference that comes back.
  double Share(double mean) const {
    return (mean - corrupted_mean_) / (clean_mean_ - corrupted_mean_);
  }
  // Of each layer's only head.
  std::vector<double> Heads(const std::string& kind) {
    const Sweep sweep = *PlanSweep(*session_, kind, "head");
    std::vector<double> shares;
    const auto by_head = *session_->Run(sweep.patches, metric_);
    for (const auto& values : by_head) {
      shares.push_back(Share(MeanOf(values)));
    }
    return shares;
  }

  std::unique_ptr<ResidualModel> model_;
  ModelInput clean_, corrupted_;
  Metric metric_;
  std::vector<int64_t> answer_;
  std::unique_ptr<PatchSession> session_;
  double clean_mean_ = 0, corrupted_mean_ = 0;
};

TEST_F(TrainedCircuitTest, PatchingFindsBothHeads) {
  EXPECT_GT(clean_mean_, 4);
  EXPECT_LT(std::abs(corrupted_mean_), 1);
  // The later head says it, by its keys and where it looks; the earlier one moves the token by its
  // values.
  EXPECT_GT(Heads("z")[1], 0.9);
  EXPECT_GT(Heads("k")[1], 0.9);
  EXPECT_GT(Heads("pattern")[1], 0.9);
  EXPECT_GT(Heads("z")[0], 0.15);
  EXPECT_GT(Heads("v")[0], 0.15);
  // By no other part.
  EXPECT_LT(std::abs(Heads("q")[0]), 0.1);
  EXPECT_LT(std::abs(Heads("k")[0]), 0.1);
  EXPECT_LT(std::abs(Heads("pattern")[0]), 0.1);
  EXPECT_LT(std::abs(Heads("v")[1]), 0.1);
  EXPECT_LT(std::abs(Heads("q")[1]), 0.1);
}

TEST_F(TrainedCircuitTest, TheyAreTiedByTheKeys) {
  const auto effects = *PatchPaths(*session_, {{"blocks.0.attn.hook_z", 0}, {"hook_embed"}},
                                   {{"blocks.1.attn.hook_q", 0},
                                    {"blocks.1.attn.hook_k", 0},
                                    {"blocks.1.attn.hook_v", 0},
                                    {"blocks.1.hook_resid_post"}},
                                   metric_);
  std::vector<std::vector<double>> shares(2);
  for (int s = 0; s < 2; ++s) {
    for (int r = 0; r < 4; ++r) shares[s].push_back(Share(MeanOf(effects.values[s][r])));
  }
  // Alone it brings back a third; with the token that stands there, which does little alone, all (k
  // as a whole, above): a softmax decides between keys.
  EXPECT_GT(shares[0][1], 0.3);
  for (const double other : {shares[0][0], shares[0][2], shares[0][3], shares[1][0], shares[1][1],
                             shares[1][2], shares[1][3]}) {
    EXPECT_LT(other, 0.2);
  }
}

TEST_F(TrainedCircuitTest, WithoutEitherItIsGone) {
  for (const int layer : {0, 1}) {
    Hooks hooks;
    hooks.Edit(
        "blocks." + std::to_string(layer) + ".attn.hook_z",
        [](absl::string_view, const Tensor& z) { return Tensor::Zeros(z.shape(), z.dtype()); });
    const Tensor logits = *model_->Run(clean_, &hooks);
    std::vector<int64_t> rows(32);
    std::iota(rows.begin(), rows.end(), int64_t{0});
    EXPECT_LT(MeanOf(metric_.value(logits, rows)), 0.2 * clean_mean_) << "layer " << layer;
  }
}

TEST_F(TrainedCircuitTest, EdgesAreFoundAndAreEnough) {
  const EdgeGraph graph = *EdgeGraph::Of(*model_);
  const EdgePair pair = *MakeEdgePair(*model_, graph, clean_, corrupted_);
  EdgeScoreOptions options;
  options.method = EdgeMethod::kEapIgInputs;
  std::vector<int> truth;
  for (const char* name : {"embed->L0H0.v", "L0H0->L1H0.k", "L1H0->logits"}) {
    truth.push_back(*graph.FindEdge(name));
  }
  const std::vector<double> scores = MeanScores(*ScoreEdges(pair, metric_, options));
  std::vector<int> top = TopEdges(scores, 3);
  std::sort(top.begin(), top.end());
  std::sort(truth.begin(), truth.end());
  EXPECT_EQ(top, truth);
  AcdcOptions acdc;
  acdc.threshold = 0.2;
  const AcdcResult found = *Acdc(pair, AnswerLoss(answer_), acdc);
  truth.push_back(*graph.FindEdge("embed->L1H0.k"));
  std::sort(truth.begin(), truth.end());
  EXPECT_EQ(found.circuit, truth);
  const RandomCircuits compared = *CompareWithRandom(pair, metric_, found.circuit, 49, 1);
  EXPECT_NEAR(compared.circuit, 1, 0.1);
  EXPECT_LE(compared.p_value, 0.05);
}

}  // namespace
}  // namespace residual
