#include "interp/attribution_patch/attribution.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "interp/attribution_patch/gradients.h"
#include "interp/patch/plain_patch.h"
#include "interp/patch/sweep.h"
#include "interp/testing/counting_model.h"
#include "interp/testing/planted_circuit.h"
#include "interp/testing/small_models.h"
#include "models/transformer/transformer.h"
#include "tensor/base/random.h"

namespace residual {
namespace {

std::unique_ptr<ResidualModel> Model(int layers = 2, bool rotary = false) {
  TransformerConfig config = SmallConfig("", layers);
  config.n_kv_heads = 2;
  if (rotary) config.positions = Positions::kRotary;
  auto model = BuildTransformer(config);
  Spread(*model, 0.4);
  return model;
}

// The estimate is the derivative of the metric along the way from one activation to the other:
// against a small step of a plain patched run.
TEST(AttributionTest, IsTheDerivativeAlongThePatch) {
  const auto model = Model();
  auto session = *PatchSession::Create(*model, SmallPrompts(true), SmallPrompts(false));
  for (const Metric& metric : {LogitDifference({3, 9}, {17, 0}), AnswerLoss({3, 9}),
                               AnswerProbability({3, 9}), KlDivergence(session.CleanLogits())}) {
    for (const auto& [kind, by] :
         std::vector<std::pair<const char*, const char*>>{{"z", "head_pos"},
                                                          {"k", "head"},
                                                          {"resid_pre", "pos"},
                                                          {"pattern", "head_pos"},
                                                          {"mlp_out", "pos"},
                                                          {"mlp.post", "layer"},
                                                          {"resid_post", "pos"},
                                                          {"ln1.scale", "pos"}}) {
      SCOPED_TRACE(metric.name + " of " + kind);
      const Sweep sweep = *PlanSweep(session, kind, by);
      for (const bool on_clean : {false, true}) {
        const auto scores = AttributePatches(session, sweep.patches, metric,
                                             {on_clean ? PatchRun::kClean : PatchRun::kCorrupted});
        ASSERT_TRUE(scores.ok()) << scores.status().message();
        double largest = 0;
        for (size_t i = 0; i < sweep.patches.size(); ++i) {
          const PatchCell& cell = sweep.patches[i].cells[0];
          const PatchPoint& point = *(*session.Points({cell.point}))[0];
          const std::vector<double> here = (on_clean ? point.clean : point.corrupted).ToDoubles();
          const std::vector<double> there = (on_clean ? point.corrupted : point.clean).ToDoubles();
          std::vector<double> measured(2);
          constexpr double kStep = 1e-5;
          for (const double sign : {1.0, -1.0}) {
            std::vector<double> moved(here.size());
            for (size_t k = 0; k < here.size(); ++k) {
              moved[k] = here[k] + sign * kStep * (there[k] - here[k]);
            }
            const Tensor to = Tensor::Of<double>(point.clean.shape(), moved);
            const auto values =
                *PatchPlainly(*model, SmallPrompts(on_clean), {{cell, point.axes, to}}, metric);
            for (int e = 0; e < 2; ++e) measured[e] += sign * values[e] / (2 * kStep);
          }
          for (int e = 0; e < 2; ++e) {
            ASSERT_NEAR((*scores)[i][e], measured[e], 1e-6 * (1 + std::abs(measured[e])))
                << cell.ToString();
            largest = std::max(largest, std::abs(measured[e]));
          }
        }
        // The divergence from the clean run has its minimum there.
        const bool at_minimum = metric.name == "kl" && on_clean;
        EXPECT_GT(largest, at_minimum ? -1 : 1e-4);
      }
    }
  }
}

TEST(AttributionTest, AddsUpOverCells) {
  const auto model = Model();
  auto session = *PatchSession::Create(*model, SmallPrompts(true), SmallPrompts(false));
  const Metric metric = LogitDifference({3, 9}, {17, 0});
  const auto by_head = *AttributePatches(session, PlanSweep(session, "z", "head")->patches, metric);
  const Sweep cells = *PlanSweep(session, "z", "head_pos");
  Patch layer;
  for (size_t i = 0; i < cells.patches.size() / 2; ++i)
    layer.cells.push_back(cells.patches[i].cells[0]);
  const auto all = *AttributePatches(session, {layer}, metric);
  for (int e = 0; e < 2; ++e) {
    double sum = 0;
    for (int h = 0; h < 4; ++h) sum += by_head[h][e];
    EXPECT_NEAR(all[0][e], sum, 1e-12);
  }
}

// What plain runs make of a metric, along a line from one value of an activation to another, while
// others are held: a slow derivative.
struct Moved {
  PatchCell cell;
  ActivationAxes axes;
  std::vector<double> from, to;  // the whole activation
  Shape shape;
};
std::vector<double> Slope(const ResidualModel& model, const ModelInput& input, const Moved& moved,
                          const std::vector<PlainEdit>& held, const Metric& metric) {
  constexpr double kStep = 1e-5;
  std::vector<double> slope(input.tokens.dim(0), 0);
  for (const double sign : {1.0, -1.0}) {
    std::vector<double> at(moved.from.size());
    for (size_t k = 0; k < at.size(); ++k) {
      at[k] = moved.from[k] + sign * kStep * (moved.to[k] - moved.from[k]);
    }
    std::vector<PlainEdit> edits = {{moved.cell, moved.axes, Tensor::Of<double>(moved.shape, at)}};
    edits.insert(edits.end(), held.begin(), held.end());
    const auto values = *PatchPlainly(model, input, edits, metric);
    for (size_t e = 0; e < slope.size(); ++e) slope[e] += sign * values[e] / (2 * kStep);
  }
  return slope;
}

Moved Way(PatchSession& session, const PatchCell& cell, PatchRun run) {
  const PatchRun other = run == PatchRun::kClean ? PatchRun::kCorrupted : PatchRun::kClean;
  const PatchPoint& point = *(*session.Points({cell.point}))[0];
  return {cell, point.axes, point.of(run).ToDoubles(), point.of(other).ToDoubles(),
          point.of(run).shape()};
}

// GradDrop, layer by layer: the slope of the metric with what the layer adds held where it was.
TEST(AttributionTest, GradDropHoldsOneLayerAfterTheOther) {
  const auto model = Model(3);
  auto session = *PatchSession::Create(*model, SmallPrompts(true), SmallPrompts(false));
  const Metric metric = LogitDifference({3, 9}, {17, 0});
  for (const PatchRun run : {PatchRun::kCorrupted, PatchRun::kClean}) {
    for (const auto& [kind, by] : std::vector<std::pair<const char*, const char*>>{
             {"z", "head"}, {"attn_out", "pos"}, {"mlp.post", "pos"}, {"resid_mid", "layer"}}) {
      SCOPED_TRACE(kind);
      const Sweep sweep = *PlanSweep(session, kind, by);
      AttributionOptions options;
      options.run = run;
      options.grad_drop = true;
      const auto scores = *AttributePatches(session, sweep.patches, metric, options);
      options.grad_drop = false;
      const auto plain = *AttributePatches(session, sweep.patches, metric, options);
      double apart = 0;
      for (size_t i = 0; i < sweep.patches.size(); ++i) {
        const PatchCell& cell = sweep.patches[i].cells[0];
        std::vector<double> want(2, 0);
        for (int layer = 0; layer < 3; ++layer) {
          std::vector<PlainEdit> held;
          for (const char* out : {"hook_attn_out", "hook_mlp_out"}) {
            const std::string name = "blocks." + std::to_string(layer) + "." + out;
            const PatchPoint& point = *(*session.Points({name}))[0];
            held.push_back({PatchCell{name}, point.axes, point.of(run)});
          }
          const auto slope = Slope(*model, SmallPrompts(run == PatchRun::kClean),
                                   Way(session, cell, run), held, metric);
          for (int e = 0; e < 2; ++e) want[e] += std::abs(slope[e]) / 2;
        }
        for (int e = 0; e < 2; ++e) {
          ASSERT_NEAR(scores[i][e], want[e], 1e-6 * (1 + want[e])) << cell.ToString();
          apart = std::max(apart, std::abs(scores[i][e] - std::abs(plain[i][e])));
        }
      }
      EXPECT_GT(apart, 1e-4);  // it is not the plain estimate
    }
  }
}

// What layer 0 writes goes to the logits once as it is and once through layer 1, with the other
// sign. The whole gradient sees nothing; of the three terms that of layer 1 alone is not 0.
TEST(AttributionTest, GradDropSeesEffectsThatCancelOut) {
  constexpr int64_t kWidth = 4;
  TransformerConfig config = AttentionOnlyConfig(3);
  config.d_model = config.d_vocab = config.d_head = kWidth;
  config.n_heads = 1;
  const auto model = BuildTransformer(config);
  Initialize(*model, 1, kF64);
  const auto set = [&](const std::string& name, double diagonal) {
    std::vector<double> values(kWidth * kWidth, 0);
    for (int64_t i = 0; i < kWidth; ++i) values[i * (kWidth + 1)] = diagonal;
    const Shape square{kWidth, kWidth};
    const bool of_heads = name.find("attn") != std::string::npos;
    SetParameter(*model, name,
                 Tensor::Of<double>(of_heads ? square.Inserted(0, 1) : square, values));
  };
  set("embed.W_E", 1);
  set("unembed.W_U", 1);
  for (const char* layer : {"0", "1", "2"}) set(absl::StrCat("blocks.", layer, ".attn.W_V"), 1);
  set("blocks.0.attn.W_O", 1);
  set("blocks.1.attn.W_O", -1);
  set("blocks.2.attn.W_O", 0);
  const ModelInput clean{Tensor::Of<int64_t>({1, 1}, {2})};
  const ModelInput corrupted{Tensor::Of<int64_t>({1, 1}, {3})};
  auto session = *PatchSession::Create(*model, clean, corrupted);
  const Metric metric = LogitDifference({2}, {3});
  const Sweep sweep = *PlanSweep(session, "attn_out", "layer");
  EXPECT_EQ((*AttributePatches(session, sweep.patches, metric))[0], std::vector<double>{0});
  AttributionOptions options;
  options.grad_drop = true;
  // |(1, -1) . (1, -1)| / (L - 1)
  EXPECT_EQ((*AttributePatches(session, sweep.patches, metric, options))[0],
            std::vector<double>{1});
}

// Passes of few rows are the same.
TEST(AttributionTest, GradDropInPieces) {
  const auto model = Model(3);
  auto session = *PatchSession::Create(*model, SmallPrompts(true), SmallPrompts(false));
  const Metric metric = LogitDifference({3, 9}, {17, 0});
  std::vector<std::string> names;
  for (int layer = 0; layer < 3; ++layer) {
    names.push_back("blocks." + std::to_string(layer) + ".attn.hook_z");
  }
  const auto whole = *GradientsWithDrops(session, PatchRun::kClean, names, metric);
  const auto pieces = *GradientsWithDrops(session, PatchRun::kClean, names, metric, 11);
  for (const std::string& name : names) {
    ASSERT_EQ(whole.at(name).size(), 3);
    for (int drop = 0; drop < 3; ++drop) {
      const auto a = whole.at(name)[drop].ToDoubles(), b = pieces.at(name)[drop].ToDoubles();
      for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-12) << name;
    }
  }
}

// The QK fix: the slope of the metric from the pattern to the one that plain runs make of the
// patched queries or keys; of a key at one position that key alone.
TEST(AttributionTest, QkFixMakesTheSoftmaxAnew) {
  for (const bool rotary : {false, true}) {
    const auto model = Model(2, rotary);
    auto session = *PatchSession::Create(*model, SmallPrompts(true), SmallPrompts(false));
    const Metric metric = LogitDifference({3, 9}, {17, 0});
    for (const PatchRun run : {PatchRun::kCorrupted, PatchRun::kClean}) {
      const PatchRun other = run == PatchRun::kClean ? PatchRun::kCorrupted : PatchRun::kClean;
      const ModelInput& input = SmallPrompts(run == PatchRun::kClean);
      for (const char* kind : {"attn.hook_q", "attn.hook_k", rotary ? "rot_k" : "attn.hook_q"}) {
        for (const char* by : {"head", "head_pos", "pos", "layer"}) {
          SCOPED_TRACE(std::string(kind) + " by " + by);
          const Sweep sweep = *PlanSweep(session, kind, by);
          AttributionOptions options;
          options.run = run;
          options.qk_fix = true;
          const auto fixed = AttributePatches(session, sweep.patches, metric, options);
          ASSERT_TRUE(fixed.ok()) << fixed.status().message();
          options.qk_fix = false;
          const auto plain = *AttributePatches(session, sweep.patches, metric, options);
          double apart = 0;
          for (size_t i = 0; i < sweep.patches.size(); ++i) {
            const PatchCell& cell = sweep.patches[i].cells[0];
            const PatchPoint& point = *(*session.Points({cell.point}))[0];
            const std::string pattern =
                cell.point.substr(0, cell.point.rfind('.')) + ".hook_pattern";
            Tensor patched;
            Hooks hooks;
            const PlainEdit edit{cell, point.axes, point.of(other)};
            hooks.Edit(cell.point,
                       [&](absl::string_view, const Tensor& x) { return EditPlainly(edit, x); });
            hooks.Read(pattern, [&](absl::string_view, const Tensor& x) { patched = x; });
            ASSERT_TRUE(model->Run(input, &hooks).ok());
            Moved moved = Way(session, PatchCell{pattern}, run);
            moved.to = patched.ToDoubles();
            const auto want = Slope(*model, input, moved, {}, metric);
            for (int e = 0; e < 2; ++e) {
              ASSERT_NEAR((*fixed)[i][e], want[e], 1e-6 * (1 + std::abs(want[e])))
                  << cell.ToString();
              apart = std::max(apart, std::abs(plain[i][e] - want[e]));
            }
          }
          EXPECT_GT(apart, 1e-4);
        }
      }
    }
  }
}

// Where what follows the pattern is linear, the fixed estimate is the patch itself; and a saturated
// softmax hides it from the plain one.
TEST(AttributionTest, QkFixIsExactInTheLastLayerOfALinearModel) {
  const auto model = PlantedInductionModel();
  const auto row = [](std::vector<int64_t> ids) {
    return ModelInput{Tensor::Of<int64_t>({1, static_cast<int64_t>(ids.size())}, ids)};
  };
  // 3 was followed by 7: the last token finds it, unless another stood in its place.
  auto session = *PatchSession::Create(*model, row({1, 3, 7, 5, 3}), row({1, 2, 7, 5, 3}));
  const Metric metric = LogitDifference({7}, {5});
  const std::string kinds[] = {"attn.hook_q", "attn.hook_k"};
  for (const std::string& kind : kinds) {
    for (const char* by : {"head", "head_pos"}) {
      Sweep sweep = *PlanSweep(session, kind, by);
      std::vector<Patch> last;
      for (const Patch& patch : sweep.patches) {
        if (patch.cells[0].point == "blocks.1." + kind) last.push_back(patch);
      }
      AttributionOptions options;
      options.qk_fix = true;
      const auto fixed = *AttributePatches(session, last, metric, options);
      const auto plain = *AttributePatches(session, last, metric);
      const auto exact = *session.Run(last, metric);
      const double corrupted = (*session.Corrupted(metric))[0];
      double largest = 0, seen = 0;
      for (size_t i = 0; i < last.size(); ++i) {
        ASSERT_NEAR(fixed[i][0], exact[i][0] - corrupted, 1e-9) << last[i].cells[0].ToString();
        largest = std::max(largest, std::abs(fixed[i][0]));
        seen = std::max(seen, std::abs(plain[i][0]));
      }
      if (kind == kinds[1]) {
        EXPECT_GT(largest, 10);
        EXPECT_GT(std::abs(largest - seen), 1);
      }
    }
  }
}

// Each run is made once: the one that sizes are taken from, and the one of the gradient.
TEST(AttributionTest, MakesEachRunOnce) {
  std::vector<int> counts;
  const auto model = CountingModel(3, &counts);
  const ModelInput clean{Tensor::Of<int64_t>({1, 4}, {1, 2, 3, 4})};
  const ModelInput corrupted{Tensor::Of<int64_t>({1, 4}, {1, 5, 3, 4})};
  for (const PatchRun run : {PatchRun::kCorrupted, PatchRun::kClean}) {
    counts.assign(3, 0);
    PatchOptions options;
    options.plan_on = run == PatchRun::kClean ? PatchRun::kCorrupted : PatchRun::kClean;
    auto session = *PatchSession::Create(*model, clean, corrupted, options);
    const Metric metric = LogitDifference({3}, {7});
    const Sweep sweep = *PlanSweep(session, "resid_pre", "pos");
    const auto scores = *AttributePatches(session, sweep.patches, metric, {run});
    ASSERT_TRUE(session.Clean(metric).ok());
    ASSERT_TRUE(session.Corrupted(metric).ok());
    EXPECT_EQ(counts, std::vector<int>({2, 2, 2}));
    // And what is patched after that is right: it has no streams yet to start from.
    const auto exact = *session.Run(sweep.patches, metric);
    auto fresh = *PatchSession::Create(*model, clean, corrupted);
    EXPECT_EQ(exact, *fresh.Run(PlanSweep(fresh, "resid_pre", "pos")->patches, metric));
  }
}

// Any mixer; and prompts that do not differ, so that no patch changes anything.
TEST(AttributionTest, StateSpacesAndPromptsThatAreTheSame) {
  TransformerConfig config;
  config.d_model = 8;
  config.n_ctx = 16;
  config.d_vocab = 31;
  config.blocks = {{"s4"}, {"mamba"}, {"s4d"}};
  const auto model = BuildTransformer(config);
  Initialize(*model, 5, kF64);
  const Metric metric = LogitDifference({3, 9}, {17, 0});
  for (const bool same : {false, true}) {
    auto session = *PatchSession::Create(*model, SmallPrompts(true), SmallPrompts(same));
    for (const char* kind : {"resid_pre", "mixer_out"}) {
      const auto planned = PlanSweep(session, kind, "pos");
      ASSERT_TRUE(planned.ok()) << planned.status().message();
      const auto exact = session.Run(planned->patches, metric);
      ASSERT_TRUE(exact.ok()) << exact.status().message();
      const std::vector<double> corrupted = *session.Corrupted(metric);
      for (const bool drop : {false, true}) {
        AttributionOptions options;
        options.qk_fix = options.grad_drop = drop;
        const auto scores = AttributePatches(session, planned->patches, metric, options);
        ASSERT_TRUE(scores.ok()) << scores.status().message();
        double largest = 0;
        for (size_t i = 0; i < scores->size(); ++i) {
          for (int e = 0; e < 2; ++e) {
            largest = std::max(largest, std::abs((*scores)[i][e]));
            // Read with a state, as the corrupted run is, they round otherwise.
            if (same) {
              EXPECT_NEAR((*exact)[i][e], corrupted[e], 1e-9);
            }
          }
        }
        EXPECT_EQ(largest < 1e-9, same) << largest;
      }
    }
  }
}

TEST(AttributionTest, WhatTheFixesCannotDoIsSaid) {
  const auto model = Model(1);
  auto session = *PatchSession::Create(*model, SmallPrompts(true), SmallPrompts(false));
  const Metric metric = LogitDifference({3, 9}, {17, 0});
  AttributionOptions options;
  options.grad_drop = true;
  EXPECT_EQ(AttributePatches(session, PlanSweep(session, "z", "head")->patches, metric, options)
                .status()
                .message(),
            "GradDrop averages over other layers than the point's, and the model has 1");
  options = {};
  options.qk_fix = true;
  EXPECT_EQ(AttributePatches(session, PlanSweep(session, "q", "unit")->patches, metric, options)
                .status()
                .message(),
            "the QK fix is of whole heads, not of unit 0 of 'blocks.0.attn.hook_q'");
}

TEST(AttributionTest, NeedsAGradient) {
  const auto model = Model();
  auto session = *PatchSession::Create(*model, SmallPrompts(true), SmallPrompts(false));
  const Metric metric =
      FunctionOfLogits("zero", [](const Tensor&, absl::Span<const int64_t> examples) {
        return std::vector<double>(examples.size(), 0);
      });
  EXPECT_EQ(AttributePatches(session, PlanSweep(session, "z", "head")->patches, metric)
                .status()
                .message(),
            "the metric 'zero' has no gradient");
  EXPECT_EQ(AttributePatches(session, PlanSweep(session, "embed", "pos")->patches,
                             LogitDifference({3, 9}, {17, 0}))
                .status()
                .code(),
            absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace residual
