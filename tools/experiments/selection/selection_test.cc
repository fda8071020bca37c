#include "tools/experiments/selection/selection.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/nn/hook.h"
#include "models/zoo/zoo.h"
#include "tools/experiments/selection/contenders.h"

namespace residual {
namespace {

constexpr int64_t kVocabulary = 6;

std::unique_ptr<ResidualModel> Model(const nlohmann::json& config) {
  auto model = ModelFromConfig(config, "the test's model");
  RESIDUAL_CHECK(model.ok()) << model.status();
  Initialize(**model, 3);
  return *std::move(model);
}

Tensor Tokens() { return Tensor::Of<int64_t>({2, 5}, {0, 1, 5, 0, 2, 4, 0, 0, 3, 5}); }

TEST(SelectionTest, StepsAreTheMeansOfDeltaByKind) {
  const auto model = Model(SmallMamba(kVocabulary, 8));
  const Tensor tokens = Tokens();
  const auto kind = [](int64_t token) { return token == 0 ? 0 : token == 5 ? -1 : 1; };
  const auto steps = MeasureSteps(*model, tokens, 3, kind);
  ASSERT_TRUE(steps.ok()) << steps.status();
  ASSERT_EQ(steps->size(), 2);
  for (int layer = 0; layer < 2; ++layer) {
    double sum[2] = {0, 0}, count[2] = {0, 0};
    Hooks hooks;
    hooks.Read(absl::StrCat("blocks.", layer, ".*.hook_delta"),
               [&](absl::string_view, const Tensor& delta) {
                 for (int64_t i = 0; i < 10; ++i) {
                   const int k = kind(tokens.data<int64_t>()[i]);
                   if (k < 0) continue;
                   for (int64_t c = 0; c < delta.dim(2); ++c, ++count[k]) {
                     sum[k] += delta.data<float>()[i * delta.dim(2) + c];
                   }
                 }
               });
    ASSERT_TRUE(model->Run({tokens}, &hooks).ok());
    EXPECT_EQ((*steps)[layer].layer, layer);
    EXPECT_NEAR((*steps)[layer].of_kind[0], sum[0] / count[0], 1e-9);
    EXPECT_NEAR((*steps)[layer].of_kind[1], sum[1] / count[1], 1e-9);
    EXPECT_TRUE(std::isnan((*steps)[layer].of_kind[2])) << "no token is of that kind";
  }
}

TEST(SelectionTest, AttentionHasNoStep) {
  const auto model = Model(SmallAttention(kVocabulary, 8, Positions::kRotary, 8));
  const auto steps = MeasureSteps(*model, Tokens(), 1, [](int64_t) { return 0; });
  EXPECT_EQ(steps.status().code(), absl::StatusCode::kNotFound);
}

TEST(SelectionTest, ReadsWhereThePatternSays) {
  const auto model = Model(SmallAttention(kVocabulary, 8, Positions::kRotary, 8));
  std::vector<Tensor> patterns;
  Hooks hooks;
  hooks.Read("blocks.*.attn.hook_pattern",
             [&](absl::string_view, const Tensor& x) { patterns.push_back(x); });
  ASSERT_TRUE(model->Run({Tokens()}, &hooks).ok());
  ASSERT_EQ(patterns.size(), 2);
  double best = 0;
  std::string name;
  for (int layer = 0; layer < 2; ++layer) {
    for (int head = 0; head < 4; ++head) {
      // [batch, head, query, key]: row 0 from position 1, row 1 from position 3.
      const float* p = patterns[layer].data<float>();
      const double share = (p[(head * 5 + 4) * 5 + 1] + p[((4 + head) * 5 + 4) * 5 + 3]) / 2;
      if (share > best) best = share, name = absl::StrCat("L", layer, "H", head);
    }
  }
  const auto unit = WhoReadsFrom(*model, Tokens(), {1, 3});
  ASSERT_TRUE(unit.ok()) << unit.status();
  EXPECT_EQ(unit->name, name);
  EXPECT_NEAR(unit->share, best, 1e-6);
}

TEST(SelectionTest, ChannelsOfMambaRead) {
  const auto model = Model(SmallMamba(kVocabulary, 8));
  const auto unit = WhoReadsFrom(*model, Tokens(), {1, 3});
  ASSERT_TRUE(unit.ok()) << unit.status();
  EXPECT_GT(unit->share, 0);
  EXPECT_LE(unit->share, 1);
  EXPECT_THAT(unit->name, ::testing::MatchesRegex("L[01]C[0-9]+"));
}

}  // namespace
}  // namespace residual
