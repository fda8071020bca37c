#include "interp/graph/part_weights.h"

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "interp/testing/small_models.h"
#include "models/transformer/transformer.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

// Of grouped attention without rotations, so that "hook_k" is what the weights make.
std::unique_ptr<ResidualModel> Grouped() {
  TransformerConfig config = SmallConfig("", 1);
  config.n_kv_heads = 2;
  auto model = BuildTransformer(config);
  Spread(*model, 0.5);
  return model;
}

TEST(PartWeightsTest, HeadsReadAsInARun) {
  const auto model = Grouped();
  const Mixer& mixer = *model->block(0).branches()[0].mixer;
  for (const auto& [part, heads] : {std::make_pair("q", 4), std::make_pair("v", 2)}) {
    const PartWeights weights(mixer, part);
    Tensor in, out;
    Hooks hooks;
    hooks.Read(std::string("blocks.0.attn.") + part + ".hook_in",
               [&in = in](absl::string_view, const Tensor& x) { in = x; });
    hooks.Read(std::string("blocks.0.attn.hook_") + part,
               [&out = out](absl::string_view, const Tensor& x) { out = x; });
    ASSERT_TRUE(model->Run(SmallPrompts(true), &hooks).ok());
    ASSERT_EQ(out.dim(2), heads);
    // Some heads, not in order; then each for itself.
    std::vector<std::vector<int64_t>> choices = {{heads - 1, 0}};
    for (int64_t h = 0; h < heads; ++h) choices.push_back({h});
    for (const std::vector<int64_t>& chosen : choices) {
      const int64_t n = static_cast<int64_t>(chosen.size());
      Tensor reads = Tensor::Uninitialized(in.shape().Inserted(0, n), kF64);
      const int64_t each = in.elements();
      for (int64_t i = 0; i < n * each; ++i) {
        reads.mutable_data<double>()[i] = in.data<double>()[i % each];
      }
      const Tensor made = weights.Make(reads, chosen);
      ASSERT_EQ(made.shape(), Shape({n, 2, 5, 6}));
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t row = 0; row < 10; ++row) {
          for (int64_t d = 0; d < 6; ++d) {
            EXPECT_NEAR(made.data<double>()[(i * 10 + row) * 6 + d],
                        out.data<double>()[(row * heads + chosen[i]) * 6 + d], 1e-12);
          }
        }
      }
    }
  }
}

// Back is the transpose of Make's linear part: <g, Make(x) - Make(0)> = <Back(g), x>.
TEST(PartWeightsTest, BackIsTheTranspose) {
  const auto model = Grouped();
  const PartWeights weights(*model->block(0).branches()[0].mixer, "k");
  const std::vector<int64_t> all = {0, 1};
  const Tensor x = RandomNormal({2, 3, 5, 12}, 1), g = RandomNormal({3, 5, 2, 6}, 2);
  const Tensor made = weights.Make(x, all),
               bias = weights.Make(Tensor::Zeros(x.shape(), kF64), all);
  const Tensor back = weights.Back(g);
  ASSERT_EQ(back.shape(), x.shape());
  double there = 0, here = 0;
  for (int64_t h = 0; h < 2; ++h) {
    for (int64_t row = 0; row < 15; ++row) {
      for (int64_t d = 0; d < 6; ++d) {
        const int64_t at = (h * 15 + row) * 6 + d;
        there += g.data<double>()[(row * 2 + h) * 6 + d] *
                 (made.data<double>()[at] - bias.data<double>()[at]);
      }
    }
  }
  for (int64_t i = 0; i < x.elements(); ++i) here += back.data<double>()[i] * x.data<double>()[i];
  EXPECT_NEAR(there, here, 1e-10);
  EXPECT_GT(std::abs(there), 0.1);
}

TEST(PartWeightsTest, AMixerWithoutTheWeightIsRefused) {
  const auto model = Grouped();
  const Mixer& mlp = *model->block(0).branches()[1].mixer;
  EXPECT_DEATH(PartWeights(mlp, "q"), "its mixer has no W_Q");
}

}  // namespace
}  // namespace residual
