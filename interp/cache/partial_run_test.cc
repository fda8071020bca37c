#include "interp/cache/partial_run.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "interp/testing/counting_model.h"
#include "models/transformer/transformer.h"

namespace residual {
namespace {

const ModelInput& Input() {
  static const auto* input = new ModelInput{Tensor::Of<int64_t>({2, 3}, {1, 2, 3, 4, 5, 6})};
  return *input;
}

TEST(PartialRunTest, RunsTheBlocksThatAreAskedFor) {
  std::vector<int> counts;
  const auto model = CountingModel(4, &counts);
  const std::vector<double> logits = model->Run(Input())->ToDoubles();
  for (int layer = 0; layer <= 4; ++layer) {
    counts.assign(4, 0);
    PartialRun below;
    below.stop_at_layer = layer;
    const auto resid = RunLayers(*model, Input(), below);
    ASSERT_TRUE(resid.ok()) << resid.status().message();
    ASSERT_EQ(resid->shape(), Shape({2, 3, 6}));
    for (int l = 0; l < 4; ++l) EXPECT_EQ(counts[l], l < layer) << l << " of " << layer;
    if (layer < 4) {
      below.stop_at_layer = layer - 4;
      EXPECT_EQ(RunLayers(*model, Input(), below)->ToDoubles(), resid->ToDoubles());
    }
    counts.assign(4, 0);
    PartialRun above;
    above.start_at_layer = layer;
    above.resid = *resid;
    const auto rest = RunLayers(*model, Input(), above);
    ASSERT_TRUE(rest.ok()) << rest.status().message();
    for (int l = 0; l < 4; ++l) EXPECT_EQ(counts[l], l >= layer) << l << " of " << layer;
    EXPECT_EQ(rest->ToDoubles(), logits);
  }
}

// Positions, masks and what is added to queries and keys are those of the whole run.
TEST(PartialRunTest, IsTheWholeRunInPieces) {
  for (const Positions positions :
       {Positions::kLearned, Positions::kRotary, Positions::kShortformer, Positions::kAlibi}) {
    TransformerConfig config;
    config.d_model = 8;
    config.n_ctx = 12;
    config.d_vocab = 13;
    config.blocks = {{"attn", "mlp"}, {"mamba"}, {"attn", "mlp"}};
    config.n_heads = 2;
    config.d_head = 4;
    config.d_mlp = 16;
    config.positions = positions;
    const auto model = BuildTransformer(config);
    Initialize(*model, 3, kF64);
    ModelInput input = Input();
    input.attention_mask = Tensor::Of<bool>({2, 3}, {false, true, true, true, true, true});
    PartialRun below, middle, above;
    below.stop_at_layer = 1;
    middle.start_at_layer = 1;
    middle.resid = *RunLayers(*model, input, below);
    middle.stop_at_layer = -1;
    above.start_at_layer = 2;
    above.resid = *RunLayers(*model, input, middle);
    EXPECT_EQ(RunLayers(*model, input, above)->ToDoubles(), model->Run(input)->ToDoubles());
    input.last_logits = 2;
    EXPECT_EQ(RunLayers(*model, input, above)->ToDoubles(), model->Run(input)->ToDoubles());
  }
}

TEST(PartialRunTest, HooksFireInItsLayersAlone) {
  std::vector<int> counts;
  const auto model = CountingModel(3, &counts);
  PartialRun part;
  part.start_at_layer = 1;
  part.resid = Tensor::Zeros({2, 3, 6}, kF64);
  part.stop_at_layer = 2;
  std::vector<std::string> fired;
  Hooks hooks;
  hooks.Read("*", [&](absl::string_view name, const Tensor&) { fired.emplace_back(name); });
  ASSERT_TRUE(RunLayers(*model, Input(), part, &hooks).ok());
  EXPECT_EQ(fired, (std::vector<std::string>{"blocks.1.hook_resid_pre", "blocks.1.hook_mixer_out",
                                             "blocks.1.hook_resid_post"}));
  const LayersRun run = *CheckPartialRun(*model, Input(), part);
  for (const DeclaredHook& hook : HookPoints(*model)) {
    EXPECT_EQ(FiresIn(*model, run, hook.name),
              std::count(fired.begin(), fired.end(), hook.name) > 0)
        << hook.name;
  }
  Hooks outside;
  outside.Read("blocks.0.hook_resid_pre", [](absl::string_view, const Tensor&) {});
  const absl::Status status = RunLayers(*model, Input(), part, &outside).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("the run is of layers [1, 2)"), std::string::npos)
      << status.message();
}

TEST(PartialRunTest, WhatDoesNotFitIsNamed) {
  std::vector<int> counts;
  const auto model = CountingModel(3, &counts);
  const auto message = [&](int start, std::optional<int> stop, const Tensor& resid) {
    return std::string(RunLayers(*model, Input(), {start, resid, stop}).status().message());
  };
  const Tensor resid = Tensor::Zeros({2, 3, 6}, kF64);
  EXPECT_EQ(message(4, {}, resid), "start_at_layer is 4, expected one of [0, 3]");
  EXPECT_EQ(message(0, 4, {}), "stop_at_layer is 4, expected one of [-3, 3]");
  EXPECT_EQ(message(0, -4, {}), "stop_at_layer is -4, expected one of [-3, 3]");
  EXPECT_EQ(message(2, 1, resid), "stop_at_layer 1 is before start_at_layer 2");
  EXPECT_EQ(message(2, {}, {}),
            "a run that starts at layer 2 needs the stream that enters it, and there is none");
  EXPECT_EQ(message(2, {}, Tensor::Zeros({2, 4, 6}, kF64)),
            "the stream that enters layer 2 is f64[2, 4, 6], expected f64[2, 3, 6]");
  EXPECT_EQ(message(2, {}, Tensor::Zeros({2, 3, 6})),
            "the stream that enters layer 2 is f32[2, 3, 6], expected f64[2, 3, 6]");
  EXPECT_EQ(message(2, {}, Tensor::Full({2, 3, 6}, std::numeric_limits<double>::quiet_NaN(), kF64)),
            "the stream that enters layer 2 holds NaN");
  EXPECT_EQ(counts, std::vector<int>(3, 0));
}

}  // namespace
}  // namespace residual
