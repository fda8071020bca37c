#include "interp/lens/tuned_lens.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "interp/testing/golden.h"
#include "interp/testing/small_models.h"
#include "models/nn/module.h"
#include "models/transformer/transformer.h"

namespace residual {
namespace {

// A text of 89 tokens with some order in it.
std::vector<int32_t> Text(int n) {
  std::vector<int32_t> text;
  for (int i = 0; i < n; ++i) text.push_back((i * i / 7 + 3 * (i % 5)) % 89);
  return text;
}

TEST(TunedLensTest, BeginsAsTheLogitLens) {
  const auto model = GoldenModel();
  TunedLensOptions options;
  options.steps = 0;
  options.context = 16;
  const auto trained = TrainTunedLens(*model, Text(400), options);
  ASSERT_TRUE(trained.ok()) << trained.status();
  ASSERT_EQ(trained->logit_lens_kl.size(), 2);
  EXPECT_EQ(trained->logit_lens_kl, trained->tuned_lens_kl);
}

TEST(TunedLensTest, BeatsTheLogitLensOnHeldOutText) {
  const auto model = GoldenModel();
  TunedLensOptions options;
  options.steps = 120;
  options.context = 16;
  options.learning_rate = 1e-2;
  int calls = 0;
  double last = 0;
  options.on_step = [&](int64_t step, double kl) {
    EXPECT_EQ(step, ++calls);
    last = kl;
  };
  const auto trained = TrainTunedLens(*model, Text(3000), options);
  ASSERT_TRUE(trained.ok()) << trained.status();
  EXPECT_EQ(calls, 120);
  for (int layer : {0, 1}) {
    EXPECT_LT(trained->tuned_lens_kl[layer], 0.8 * trained->logit_lens_kl[layer]) << layer;
    EXPECT_GT(trained->tuned_lens_kl[layer], 0);
  }
  const double mean = (trained->tuned_lens_kl[0] + trained->tuned_lens_kl[1]) / 2;
  EXPECT_NEAR(last / mean, 1, 0.5);
  // The same seed, the same lens.
  options.on_step = nullptr;
  EXPECT_EQ(TrainTunedLens(*model, Text(3000), options)->tuned_lens_kl, trained->tuned_lens_kl);
}

// What is left is a bias: a lens that can move the stream finds it exactly.
TEST(TunedLensTest, UndoesALayerThatAddsAConstant) {
  TransformerConfig config = MlpOnlyConfig();
  config.positions = Positions::kNone;
  const auto model = BuildTransformer(config);
  Initialize(*model, 3, kF64);
  for (const Parameter& parameter : Parameters(*model)) {
    double* x = parameter.value->mutable_data<double>();
    for (int64_t i = 0; i < parameter.value->elements(); ++i) {
      if (parameter.name == "embed.W_E" || parameter.name == "unembed.W_U") x[i] *= 20;
      if (parameter.name == "blocks.0.mlp.W_out") x[i] = 0;
      if (parameter.name == "blocks.0.mlp.b_out") x[i] = std::sin(2.0 * i);
    }
  }
  std::vector<int32_t> text;
  for (int i = 0; i < 500; ++i) text.push_back(i * i % 11);
  TunedLensOptions options;
  options.steps = 300;
  options.context = 8;
  options.learning_rate = 3e-2;
  const auto trained = TrainTunedLens(*model, text, options);
  ASSERT_TRUE(trained.ok()) << trained.status();
  EXPECT_GT(trained->logit_lens_kl[0], 0.05);
  EXPECT_LT(trained->tuned_lens_kl[0], 0.01 * trained->logit_lens_kl[0]);
}

TEST(TunedLensTest, ShortTextsAndBadTokensAreRefused) {
  const auto model = GoldenModel();
  TunedLensOptions options;
  options.context = 16;
  auto error = [&](const std::vector<int32_t>& text) {
    const absl::Status status = TrainTunedLens(*model, text, options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_NE(error(Text(31)).find("31 tokens, expected at least 32"), std::string::npos);
  std::vector<int32_t> text = Text(100);
  text[50] = 89;
  EXPECT_NE(error(text).find("token 89, outside the vocabulary of 89"), std::string::npos);
}

}  // namespace
}  // namespace residual
