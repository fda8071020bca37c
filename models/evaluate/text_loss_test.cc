#include "models/evaluate/text_loss.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "models/transformer/transformer.h"
#include "ops/loss/cross_entropy.h"
#include "tensor/base/parallel.h"
#include "tensor/base/random.h"

namespace residual {
namespace {

std::unique_ptr<ResidualModel> Model() {
  TransformerConfig c;
  c.d_model = 16;
  c.n_ctx = 10;
  c.d_vocab = 13;
  c.blocks = {{"attn", "mlp"}};
  c.n_heads = 2;
  c.d_head = 8;
  c.d_mlp = 24;
  c.init_scale = 0.4;
  auto model = BuildTransformer(c);
  Initialize(*model, 3);
  return model;
}

std::vector<int32_t> Tokens(int64_t n) {
  const Philox random(9);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < n; ++i) tokens.push_back(static_cast<int32_t>(random.Below(i, 13)));
  return tokens;
}

// -ln p of token `at`, given those from `begin` on.
double Nats(const ResidualModel& model, const std::vector<int32_t>& tokens, int64_t begin,
            int64_t at) {
  const std::vector<int64_t> window(tokens.begin() + begin, tokens.begin() + at);
  const int64_t n = at - begin;
  const Tensor logits = model.Forward({Tensor::Of<int64_t>({1, n}, window)}).Row(0).Row(n - 1);
  return -TokenLogProbs(logits, Tensor::Scalar(tokens[at], kI64)).Item();
}

TEST(TextLossTest, ScoresEveryTokenOnceInTheFirstWindowThatHasIt) {
  const auto model = Model();
  for (const int64_t n : {2, 3, 9, 10, 11, 14, 15, 40, 61}) {
    const std::vector<int32_t> tokens = Tokens(n);
    for (const int64_t context : {2, 7, 10}) {
      for (const int64_t stride : {int64_t{1}, context / 2, context - 1}) {
        double want = 0;
        for (int64_t at = 1; at < n; ++at) {
          int64_t begin = 0;
          while (begin + context <= at) begin += stride;
          want += Nats(*model, tokens, begin, at);
        }
        TextLossOptions options;
        options.context = context;
        options.stride = stride;
        const auto got = EvaluateText(*model, tokens, options);
        ASSERT_TRUE(got.ok()) << got.status();
        EXPECT_EQ(got->tokens, n - 1);
        EXPECT_NEAR(got->total, want, 1e-5 * n) << n << ", " << context << ", " << stride;
        EXPECT_NEAR(got->loss(), want / (n - 1), 1e-5);
      }
    }
  }
}

TEST(TextLossTest, TakesTheModelsContextAndHalfOfIt) {
  const auto model = Model();
  const std::vector<int32_t> tokens = Tokens(33);
  TextLossOptions options;
  options.context = 10;
  options.stride = 5;
  EXPECT_EQ(EvaluateText(*model, tokens)->total, EvaluateText(*model, tokens, options)->total);
}

TEST(TextLossTest, ReportsProgressAndIsTheSameForAnyNumberOfThreads) {
  const auto model = Model();
  const std::vector<int32_t> tokens = Tokens(5000);
  const int before = NumThreads();
  TextLossOptions options;
  std::vector<int64_t> reported;
  options.on_progress = [&](int64_t scored, int64_t of) {
    reported.push_back(scored);
    EXPECT_EQ(of, 4999);
  };
  SetNumThreads(1);
  const double one = EvaluateText(*model, tokens, options)->total;
  EXPECT_GT(reported.size(), 2);
  EXPECT_TRUE(std::is_sorted(reported.begin(), reported.end()));
  EXPECT_EQ(reported.back(), 4999);
  SetNumThreads(3);
  EXPECT_EQ(EvaluateText(*model, tokens, options)->total, one);
  SetNumThreads(before);
}

TEST(TextLossTest, SaysWhatIsWrong) {
  const auto model = Model();
  auto message = [&](const std::vector<int32_t>& tokens, int64_t context, int64_t stride) {
    TextLossOptions options;
    options.context = context;
    options.stride = stride;
    return std::string(EvaluateText(*model, tokens, options).status().message());
  };
  EXPECT_EQ(message({}, 0, 0), "the text has 0 tokens, expected at least 2");
  EXPECT_EQ(message({1}, 0, 0), "the text has 1 token, expected at least 2");
  EXPECT_EQ(message({1, 13}, 0, 0), "token 13 at position 1 is outside the vocabulary of 13");
  EXPECT_EQ(message({1, 2}, 11, 0), "context is 11, expected an integer in [2, 10]");
  EXPECT_EQ(message({1, 2}, 1, 0), "context is 1, expected an integer in [2, 10]");
  EXPECT_EQ(message({1, 2}, 8, 8), "stride is 8, expected an integer in [1, 7]");
  EXPECT_EQ(message({1, 2}, 8, -1), "stride is -1, expected an integer in [1, 7]");
}

}  // namespace
}  // namespace residual
