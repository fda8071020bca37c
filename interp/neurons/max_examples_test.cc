#include "interp/neurons/max_examples.h"

#include <algorithm>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "models/nn/module.h"
#include "models/transformer/transformer.h"

namespace residual {
namespace {

std::unique_ptr<ResidualModel> SmallModel() {
  TransformerConfig config;
  config.d_model = 12;
  config.n_ctx = 16;
  config.d_vocab = 17;
  config.blocks = {{"attn", "mlp"}, {"attn", "mlp"}};
  config.n_heads = 2;
  config.d_head = 6;
  config.d_mlp = 70;  // more than a strip
  auto model = BuildTransformer(config);
  Initialize(*model, 3, kF64);
  return model;
}

std::vector<int32_t> Text(int n) {
  std::vector<int32_t> text;
  for (int i = 0; i < n; ++i) text.push_back((i * i / 3 + 5 * (i % 7)) % 17);
  return text;
}

// Against every window run by itself, everything kept.
TEST(MaxExamplesTest, AreTheLargestOfAll) {
  const auto model = SmallModel();
  for (const int n : {1, 7, 16, 101}) {
    const std::vector<int32_t> text = Text(n);
    for (const int stride : {0, 3, 16}) {
      MaxExamplesOptions options;
      options.count = 3;
      options.context = 16;
      options.stride = std::min(stride, n);
      options.rows = 4;
      const auto got = FindMaxExamples(*model, text, "blocks.1.mlp.hook_post", options);
      ASSERT_TRUE(got.ok()) << got.status();
      ASSERT_EQ(got->size(), 70);
      const int context = std::min(16, n);
      const int step = options.stride != 0 ? options.stride : std::max(1, context / 2);
      std::vector<std::vector<Example>> best(70);
      std::vector<double> sum(70), active(70);
      for (int begin = 0, done = 0; done < n; begin += step) {
        const int end = std::min(begin + context, n);
        Tensor tokens = Tensor::Uninitialized({1, end - begin}, kI64);
        std::copy(text.begin() + begin, text.begin() + end, tokens.mutable_data<int64_t>());
        std::vector<double> x;
        Hooks hooks;
        hooks.Read("blocks.1.mlp.hook_post",
                   [&](absl::string_view, const Tensor& post) { x = post.ToDoubles(); });
        ASSERT_TRUE(model->Run({tokens}, &hooks).ok());
        for (int i = 0; i < 70; ++i) {
          Example largest;
          for (int t = done; t < end; ++t) {
            const double value = x[(t - begin) * 70 + i];
            if (t == done || value > largest.activation) largest = {begin, end, t, value};
            sum[i] += value;
            active[i] += value > 0;
          }
          best[i].push_back(largest);
        }
        done = end;
      }
      for (int i = 0; i < 70; ++i) {
        std::stable_sort(best[i].begin(), best[i].end(), [](const auto& a, const auto& b) {
          return a.activation > b.activation + 1e-12;
        });
        const NeuronExamples& neuron = (*got)[i];
        ASSERT_EQ(neuron.examples.size(), std::min<size_t>(3, best[i].size()));
        for (size_t k = 0; k < neuron.examples.size(); ++k) {
          EXPECT_NEAR(neuron.examples[k].activation, best[i][k].activation, 1e-12);
          EXPECT_EQ(neuron.examples[k].position, best[i][k].position) << n << " " << i;
          EXPECT_EQ(neuron.examples[k].begin, best[i][k].begin);
          EXPECT_EQ(neuron.examples[k].end, best[i][k].end);
        }
        EXPECT_NEAR(neuron.mean, sum[i] / n, 1e-12);
        EXPECT_NEAR(neuron.active, active[i] / n, 1e-12);
      }
    }
  }
}

TEST(MaxExamplesTest, AnyPointOfABlockWithThreeAxes) {
  const auto model = SmallModel();
  int64_t last = 0;
  MaxExamplesOptions options;
  options.context = 8;
  options.on_progress = [&](int64_t tokens, int64_t of) {
    EXPECT_EQ(of, 40);
    EXPECT_GT(tokens, last);
    last = tokens;
  };
  EXPECT_EQ(FindMaxExamples(*model, Text(40), "blocks.0.hook_resid_mid", options)->size(), 12);
  EXPECT_EQ(last, 40);
}

TEST(MaxExamplesTest, WhatIsWrongIsNamed) {
  const auto model = SmallModel();
  auto error = [&](const std::string& hook, const std::vector<int32_t>& text,
                   const MaxExamplesOptions& options = {}) {
    const absl::Status status = FindMaxExamples(*model, text, hook, options).status();
    EXPECT_FALSE(status.ok());
    return std::string(status.message());
  };
  EXPECT_TRUE(
      absl::StrContains(error("blocks.0.mlp.hook_pst", Text(9)), "'blocks.0.mlp.hook_post'"));
  EXPECT_TRUE(absl::StrContains(error("hook_embed", Text(9)), "of one block"));
  EXPECT_TRUE(absl::StrContains(error("blocks.*.mlp.hook_post", Text(9)), "of one block"));
  EXPECT_TRUE(
      absl::StrContains(error("blocks.0.attn.hook_z", Text(9)), "expected [batch, pos, neurons]"));
  EXPECT_EQ(error("blocks.0.mlp.hook_post", {}), "the text is empty");
  EXPECT_TRUE(absl::StrContains(error("blocks.0.mlp.hook_post", {17}), "vocabulary of 17"));
  MaxExamplesOptions options;
  options.stride = 17;
  EXPECT_TRUE(absl::StrContains(error("blocks.0.mlp.hook_post", Text(40), options), "stride 17"));
}

}  // namespace
}  // namespace residual
