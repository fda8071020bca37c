#include "interp/patch/attribution.h"

#include <cmath>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "interp/patch/plain_patch.h"
#include "interp/patch/sweep.h"
#include "models/transformer/transformer.h"
#include "tensor/base/random.h"

namespace residual {
namespace {

std::unique_ptr<ResidualModel> Model() {
  TransformerConfig config;
  config.d_model = 12;
  config.n_ctx = 16;
  config.d_vocab = 31;
  config.blocks = {{"attn", "mlp"}, {"attn", "mlp"}};
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.d_head = 6;
  config.d_mlp = 17;
  auto model = BuildTransformer(config);
  Initialize(*model, 5, kF64);
  for (const Parameter& p : Parameters(*model)) {
    if (p.init.kind != Init::kZeros && p.init.kind != Init::kNormal) continue;
    InitializeParameter({p.name, p.value, p.shape, Init::Normal(0.4), p.options}, 5, kF64);
  }
  return model;
}

const ModelInput& Prompts(bool clean) {
  static const auto* inputs = new std::vector<ModelInput>{
      {Tensor::Of<int64_t>({2, 5}, {1, 2, 3, 4, 5, 30, 7, 8, 0, 9})},
      {Tensor::Of<int64_t>({2, 5}, {11, 2, 13, 4, 5, 3, 17, 8, 6, 10})}};
  return (*inputs)[clean ? 1 : 0];
}

// The estimate is the derivative of the metric along the way from one activation to the other:
// against a small step of a plain patched run.
TEST(AttributionTest, IsTheDerivativeAlongThePatch) {
  const auto model = Model();
  auto session = *PatchSession::Create(*model, Prompts(true), Prompts(false));
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
        const auto scores =
            AttributePatches(session, sweep.patches, metric,
                             on_clean ? GradientRun::kClean : GradientRun::kCorrupted);
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
                *PatchPlainly(*model, Prompts(on_clean), {{cell, point.axes, to}}, metric);
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
  auto session = *PatchSession::Create(*model, Prompts(true), Prompts(false));
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

TEST(AttributionTest, NeedsAGradient) {
  const auto model = Model();
  auto session = *PatchSession::Create(*model, Prompts(true), Prompts(false));
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
