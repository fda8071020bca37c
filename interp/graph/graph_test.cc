#include "interp/graph/graph.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "interp/attribution_patch/attribution.h"
#include "interp/graph/edge_scores.h"
#include "interp/graph/graph_run.h"
#include "interp/patch/plain_patch.h"
#include "interp/patch/session.h"
#include "interp/testing/small_models.h"
#include "models/transformer/transformer.h"

namespace residual {
namespace {

constexpr int64_t kWidth = 12;

std::unique_ptr<ResidualModel> Make(const std::string& name) {
  TransformerConfig config = SmallConfig(name, name == "attention_only" ? 3 : 2);
  if (name == "mamba") {
    config.blocks = {{"mamba"}, {"attn"}, {"mamba2"}};
    config.d_state = 3;
    config.d_inner = 12;
    config.mamba_d_head = 4;
  }
  auto model = BuildTransformer(config);
  Spread(*model, 0.35);
  return model;
}

Metric AMetric() { return LogitDifference({3, 9}, {17, 0}); }

std::vector<double> Values(const ResidualModel& model, const ModelInput& input, Hooks* hooks,
                           const Metric& metric) {
  const Tensor logits = *model.Run(input, hooks);
  return metric.value(logits, {0, 1});
}

TEST(EdgeGraphTest, CountsWhatOthersCount) {
  TransformerConfig config;
  config.d_model = 12;
  config.n_ctx = 4;
  config.d_vocab = 3;
  config.blocks.assign(12, {"attn", "mlp"});
  config.n_heads = 12;
  config.d_head = 1;
  config.d_mlp = 1;
  const auto model = BuildTransformer(config);
  Initialize(*model, 1);
  const EdgeGraph graph = *EdgeGraph::Of(*model);
  EXPECT_EQ(graph.writers().size(), 157);
  EXPECT_EQ(graph.readers().size(), 445);
  EXPECT_EQ(graph.edges(), 32491);
  const int edge = *graph.FindEdge("L3H5->L4H2.q");
  EXPECT_EQ(graph.EdgeName(edge), "L3H5->L4H2.q");
  EXPECT_EQ(graph.writers()[graph.WriterOf(edge)].head, 5);
  EXPECT_EQ(graph.readers()[graph.ReaderOf(edge)].part, "q");
  EXPECT_EQ(graph.FindEdge("L4H5->L4H2.q").status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(graph.FindEdge("L4H5->L4.mlp").ok());
  EXPECT_TRUE(graph.FindEdge("L11.mlp->logits").ok());
}

TEST(EdgeGraphTest, GroupsAndMixers) {
  const auto grouped = Make("grouped_rotary");
  const EdgeGraph graph = *EdgeGraph::Of(*grouped);
  EXPECT_TRUE(graph.FindEdge("embed->L1H1.k").ok());
  EXPECT_FALSE(graph.FindEdge("embed->L1H2.k").ok());
  EXPECT_TRUE(graph.FindEdge("embed->L1H3.q").ok());
  // Key head 1 is read by heads 2 and 3.
  const EdgeGraph::Range behind =
      graph.WritersBehind(graph.ReaderOf(*graph.FindEdge("embed->L1H1.k")));
  EXPECT_EQ(graph.writers()[behind.begin].name, "L1H2");
  EXPECT_EQ(behind.end - behind.begin, 2);

  const auto mamba = Make("mamba");
  const EdgeGraph mixed = *EdgeGraph::Of(*mamba);
  EXPECT_TRUE(mixed.FindEdge("embed->L0.mixer").ok());
  EXPECT_TRUE(mixed.FindEdge("L0.mixer->L1H2.v").ok());
  EXPECT_TRUE(mixed.FindEdge("L1H2->L2.mixer").ok());
  EXPECT_TRUE(mixed.FindEdge("L2.mixer->logits").ok());
  EXPECT_EQ(EdgeGraph::Of(*Make("post_norm")).status().code(), absl::StatusCode::kUnimplemented);
}

TEST(GraphRunTest, ARunIsTheModels) {
  for (const char* name : {"plain", "grouped_rotary", "parallel", "attention_only", "mamba"}) {
    SCOPED_TRACE(name);
    const auto model = Make(name);
    const EdgeGraph graph = *EdgeGraph::Of(*model);
    const EdgePair pair = *MakeEdgePair(*model, graph, SmallPrompts(true), SmallPrompts(false));
    const Metric metric = AMetric();
    const std::vector<double> clean = Values(*model, SmallPrompts(true), nullptr, metric);
    const std::vector<double> corrupted = Values(*model, SmallPrompts(false), nullptr, metric);
    const std::vector<uint8_t> none(graph.edges(), 0), all(graph.edges(), 1);
    const std::vector<double> own = pair.clean.Value(metric, pair.clean.Run(none, {}));
    // Every edge from the other run: what is read is the other run.
    const std::vector<double> other =
        pair.clean.Value(metric, pair.clean.Run(all, {&pair.corrupted.outputs()}));
    for (int e = 0; e < 2; ++e) {
      EXPECT_NEAR(own[e], clean[e], 1e-11);
      EXPECT_NEAR(other[e], corrupted[e], 1e-9);
      EXPECT_GT(std::abs(clean[e] - corrupted[e]), 1e-3);
    }
  }
}

// The gain and bias of "blocks.1.ln1" and the like, and other parameters, in double.
std::vector<double> Weight(ResidualModel& model, const std::string& name) {
  for (const Parameter& p : Parameters(model)) {
    if (p.name == name) return ToDisk(p, *p.value).ToDoubles();
  }
  ADD_FAILURE() << name;
  return {};
}

// Many edges at once, against one run of the model with hooks: what a head's query is made of is
// computed here, from what was written so far in this very run.
TEST(GraphRunTest, ManyEdgesAreWhatHooksMake) {
  const auto model = Make("plain");
  const EdgeGraph graph = *EdgeGraph::Of(*model);
  const EdgePair pair = *MakeEdgePair(*model, graph, SmallPrompts(true), SmallPrompts(false));
  const Metric metric = AMetric();
  const std::vector<std::string> names = {"L0H1->L1H2.q", "embed->L1H2.q", "L0H3->L1.mlp",
                                          "L1H2->L1.mlp", "embed->L0.mlp", "L1.mlp->logits",
                                          "L0H1->logits"};
  std::vector<uint8_t> from(graph.edges(), 0);
  for (const std::string& name : names) from[*graph.FindEdge(name)] = 1;
  const std::vector<double> got =
      pair.clean.Value(metric, pair.clean.Run(from, {&pair.corrupted.outputs()}));

  // What was written, in the corrupted run and in this one.
  struct Written {
    std::vector<double> embed, heads[2], mlp[2];
  } other, own;
  const auto record = [](Hooks& hooks, Written& written) {
    const auto keep = [&hooks](const char* name, std::vector<double>& to) {
      hooks.Read(name, [&to](absl::string_view, const Tensor& x) { to = x.ToDoubles(); });
    };
    keep("blocks.0.hook_resid_pre", written.embed);
    keep("blocks.0.attn.hook_result", written.heads[0]);
    keep("blocks.1.attn.hook_result", written.heads[1]);
    keep("blocks.0.hook_mlp_out", written.mlp[0]);
    keep("blocks.1.hook_mlp_out", written.mlp[1]);
  };
  Hooks recording;
  record(recording, other);
  Values(*model, SmallPrompts(false), &recording, metric);

  const auto head_delta = [&](int layer, int head, size_t i) {  // i of [batch, pos, d_model]
    const size_t at = (i / kWidth * 4 + head) * kWidth + i % kWidth;
    return other.heads[layer][at] - own.heads[layer][at];
  };
  Hooks hooks;
  record(hooks, own);
  std::vector<double> stream;
  hooks.Read("blocks.1.hook_resid_pre",
             [&](absl::string_view, const Tensor& x) { stream = x.ToDoubles(); });
  hooks.Edit("blocks.0.ln2.hook_in", [&](absl::string_view, const Tensor& x) {
    std::vector<double> y = x.ToDoubles();
    for (size_t i = 0; i < y.size(); ++i) y[i] += other.embed[i] - own.embed[i];
    return Tensor::Of<double>(x.shape(), y);
  });
  const std::vector<double> gain = Weight(*model, "blocks.1.ln1.w"),
                            bias = Weight(*model, "blocks.1.ln1.b"),
                            W_Q = Weight(*model, "blocks.1.attn.W_Q"),
                            b_Q = Weight(*model, "blocks.1.attn.b_Q");
  hooks.Edit("blocks.1.attn.hook_q", [&](absl::string_view, const Tensor& q) {
    std::vector<double> y = q.ToDoubles();
    for (int row = 0; row < 10; ++row) {
      double x[kWidth], mean = 0, variance = 0;
      for (int k = 0; k < kWidth; ++k) {
        const size_t i = row * kWidth + k;
        x[k] = stream[i] + head_delta(0, 1, i) + other.embed[i] - own.embed[i];
        mean += x[k] / kWidth;
      }
      for (double v : x) variance += (v - mean) * (v - mean) / kWidth;
      for (int j = 0; j < 6; ++j) {
        double sum = b_Q[2 * 6 + j];
        for (int k = 0; k < kWidth; ++k) {
          const double normal = (x[k] - mean) / std::sqrt(variance + 1e-5) * gain[k] + bias[k];
          sum += normal * W_Q[(2 * kWidth + k) * 6 + j];
        }
        y[(row * 4 + 2) * 6 + j] = sum;
      }
    }
    return Tensor::Of<double>(q.shape(), y);
  });
  hooks.Edit("blocks.1.ln2.hook_in", [&](absl::string_view, const Tensor& x) {
    std::vector<double> y = x.ToDoubles();
    for (size_t i = 0; i < y.size(); ++i) y[i] += head_delta(0, 3, i) + head_delta(1, 2, i);
    return Tensor::Of<double>(x.shape(), y);
  });
  hooks.Edit("blocks.1.hook_resid_post", [&](absl::string_view, const Tensor& x) {
    std::vector<double> y = x.ToDoubles();
    for (size_t i = 0; i < y.size(); ++i) {
      y[i] += other.mlp[1][i] - own.mlp[1][i] + head_delta(0, 1, i);
    }
    return Tensor::Of<double>(x.shape(), y);
  });
  const std::vector<double> want = Values(*model, SmallPrompts(true), &hooks, metric);
  const std::vector<double> clean = Values(*model, SmallPrompts(true), nullptr, metric);
  for (int e = 0; e < 2; ++e) {
    EXPECT_NEAR(got[e], want[e], 1e-9);
    EXPECT_GT(std::abs(want[e] - clean[e]), 1e-3);
  }
}

// The score of an edge is the derivative of the metric along it.
TEST(EdgeScoresTest, EapIsADerivative) {
  for (const char* name : {"plain", "grouped_rotary", "parallel", "attention_only", "mamba"}) {
    SCOPED_TRACE(name);
    const auto model = Make(name);
    const EdgeGraph graph = *EdgeGraph::Of(*model);
    const EdgePair pair = *MakeEdgePair(*model, graph, SmallPrompts(true), SmallPrompts(false));
    for (const Metric& metric : {AMetric(), AnswerLoss({3, 9})}) {
      for (const PatchRun which : {PatchRun::kClean, PatchRun::kCorrupted}) {
        EdgeScoreOptions options;
        options.run = which;
        const EdgeScores scores = *ScoreEdges(pair, metric, options);
        ASSERT_EQ(scores.size(), graph.edges());
        const GraphRun& run = pair.run(which);
        double largest = 0;
        for (int edge = 0; edge < graph.edges(); edge += 3) {
          const int w = graph.WriterOf(edge);
          std::vector<double> slope(2);
          for (const double step : {1e-5, -1e-5}) {
            WriterOutputs moved = run.outputs();
            std::vector<double> value = moved[w].ToDoubles();
            const std::vector<double> to = pair.other(which).outputs()[w].ToDoubles();
            for (size_t i = 0; i < value.size(); ++i) value[i] += step * (to[i] - value[i]);
            moved[w] = Tensor::Of<double>(moved[w].shape(), value);
            std::vector<uint8_t> from(graph.edges(), 0);
            from[edge] = 1;
            const std::vector<double> at = run.Value(metric, run.Run(from, {&moved}));
            for (int e = 0; e < 2; ++e) slope[e] += at[e] / (2 * step);
          }
          for (int e = 0; e < 2; ++e) {
            ASSERT_NEAR(scores[edge][e], slope[e], 1e-6 * (1 + std::abs(slope[e])))
                << graph.EdgeName(edge);
            largest = std::max(largest, std::abs(slope[e]));
          }
        }
        EXPECT_GT(largest, 1e-3);
      }
    }
  }
}

TEST(EdgeScoresTest, AWritersEdgesAddUpToItsAttribution) {
  const auto model = Make("grouped_rotary");
  const EdgeGraph graph = *EdgeGraph::Of(*model);
  const EdgePair pair = *MakeEdgePair(*model, graph, SmallPrompts(true), SmallPrompts(false));
  auto session = *PatchSession::Create(*model, SmallPrompts(true), SmallPrompts(false));
  for (const PatchRun which : {PatchRun::kClean, PatchRun::kCorrupted}) {
    EdgeScoreOptions options;
    options.run = which;
    const EdgeScores scores = *ScoreEdges(pair, AMetric(), options);
    for (size_t w = 1; w < graph.writers().size(); ++w) {
      const GraphWriter& writer = graph.writers()[w];
      Patch patch;
      const std::string block = "blocks." + std::to_string(writer.layer);
      PatchCell cell{block + (writer.head >= 0 ? ".attn.hook_z" : ".hook_mlp_out")};
      cell.head = writer.head;
      patch.cells.push_back(cell);
      const auto want = *AttributePatches(session, {patch}, AMetric(), {which});
      for (int e = 0; e < 2; ++e) {
        double sum = 0;
        for (size_t r = 0; r < graph.readers().size(); ++r) {
          if (static_cast<int>(w) < graph.readers()[r].writers) {
            sum += scores[graph.EdgeOf(static_cast<int>(w), static_cast<int>(r))][e];
          }
        }
        EXPECT_NEAR(sum, want[0][e], 1e-10) << writer.name;
      }
    }
  }
}

// Gradients averaged over the whole way are the difference between its ends.
TEST(EdgeScoresTest, IntegratedGradientsAddUpToWhatChanges) {
  const auto model = Make("plain");
  const EdgeGraph graph = *EdgeGraph::Of(*model);
  const EdgePair pair = *MakeEdgePair(*model, graph, SmallPrompts(true), SmallPrompts(false));
  const Metric metric = AMetric();
  const std::vector<double> clean = pair.clean.Value(metric, pair.clean.resid());
  const std::vector<double> corrupted = pair.corrupted.Value(metric, pair.corrupted.resid());
  const auto sum_of = [&](const EdgeScores& scores, EdgeGraph::Range writers, int e) {
    double sum = 0;
    for (int edge = 0; edge < graph.edges(); ++edge) {
      const int w = graph.WriterOf(edge);
      if (w >= writers.begin && w < writers.end) sum += scores[edge][e];
    }
    return sum;
  };
  EdgeScoreOptions options;
  options.method = EdgeMethod::kEapIgInputs;
  // The left ends of the steps: halving them halves what is missing.
  std::vector<double> missing[2];
  for (const int half : {0, 1}) {
    options.steps = 100 << half;
    const EdgeScores scores = *ScoreEdges(pair, metric, options);
    for (int e = 0; e < 2; ++e) {
      missing[half].push_back(sum_of(scores, {0, 1}, e) - (corrupted[e] - clean[e]));
    }
  }
  for (int e = 0; e < 2; ++e) {
    EXPECT_NEAR(missing[1][e], missing[0][e] / 2, 0.1 * std::abs(missing[0][e]) + 1e-4);
    EXPECT_NEAR(missing[1][e], 0, 0.05 * std::abs(corrupted[e] - clean[e]));
  }

  // What the heads of a layer wrote: its end is a run with the corrupted output in its place.
  options.method = EdgeMethod::kEapIgActivations;
  options.steps = 200;
  const EdgeScores scores = *ScoreEdges(pair, metric, options);
  for (const int layer : {0, 1}) {
    Hooks hooks;
    hooks.Edit(
        "blocks." + std::to_string(layer) + ".hook_attn_out",
        [&](absl::string_view, const Tensor&) { return pair.corrupted.MixerOutput(layer, 0); });
    const std::vector<double> end = Values(*model, SmallPrompts(true), &hooks, metric);
    for (int e = 0; e < 2; ++e) {
      EXPECT_NEAR(sum_of(scores, graph.WritersOf(layer, 0), e), end[e] - clean[e],
                  0.03 * std::abs(end[e] - clean[e]) + 1e-3);
    }
  }
}

TEST(EdgeScoresTest, TwoSignsAndTheirMean) {
  const auto model = Make("plain");
  const EdgeGraph graph = *EdgeGraph::Of(*model);
  const EdgePair pair = *MakeEdgePair(*model, graph, SmallPrompts(true), SmallPrompts(false));
  EdgeScoreOptions options;
  const EdgeScores noising = *ScoreEdges(pair, AMetric(), options);
  options.run = PatchRun::kCorrupted;
  const EdgeScores denoising = *ScoreEdges(pair, AMetric(), options);
  options.run = PatchRun::kClean;
  options.method = EdgeMethod::kCleanCorrupted;
  const EdgeScores both = *ScoreEdges(pair, AMetric(), options);
  // One step of integrated gradients is the gradient at the corrupted end.
  options.method = EdgeMethod::kEapIgInputs;
  options.steps = 1;
  const EdgeScores one = *ScoreEdges(pair, AMetric(), options);
  for (int edge = 0; edge < graph.edges(); ++edge) {
    EXPECT_NEAR(both[edge][0], (noising[edge][0] - denoising[edge][0]) / 2, 1e-10);
    EXPECT_NEAR(one[edge][1], -denoising[edge][1], 1e-10);
  }
  const std::vector<int> some = {*graph.FindEdge("L0H1->logits"), *graph.FindEdge("embed->logits")};
  const EdgeScores exact = *ExactEdgeScores(pair, AMetric(), some);
  ASSERT_EQ(exact.size(), 2);
  std::vector<uint8_t> from(graph.edges(), 0);
  from[some[1]] = 1;
  const std::vector<double> patched =
      pair.clean.Value(AMetric(), pair.clean.Run(from, {&pair.corrupted.outputs()}));
  EXPECT_NEAR(exact[1][0], patched[0] - pair.clean.Value(AMetric(), pair.clean.resid())[0], 1e-12);
}

TEST(EdgeScoresTest, SaysWhatCannotBe) {
  const auto model = Make("plain");
  const EdgeGraph graph = *EdgeGraph::Of(*model);
  const ModelInput shorter{Tensor::Of<int64_t>({2, 4}, {1, 2, 3, 4, 5, 6, 7, 8})};
  EXPECT_EQ(MakeEdgePair(*model, graph, SmallPrompts(true), shorter).status().message(),
            "clean prompts are [2, 5] and corrupted ones [2, 4], expected pairs of equal length "
            "[batch, pos]");
  const EdgePair pair = *MakeEdgePair(*model, graph, SmallPrompts(true), SmallPrompts(false));
  EdgeScoreOptions options;
  options.method = EdgeMethod::kEapIgInputs;
  options.steps = 0;
  EXPECT_EQ(ScoreEdges(pair, AMetric(), options).status().message(),
            "integrated gradients of 0 steps, expected at least 1");
  const Metric flat = FunctionOfLogits("zero", [](const Tensor&, absl::Span<const int64_t> rows) {
    return std::vector<double>(rows.size(), 0);
  });
  EXPECT_EQ(ScoreEdges(pair, flat).status().message(), "the metric 'zero' has no gradient");
}

}  // namespace
}  // namespace residual
