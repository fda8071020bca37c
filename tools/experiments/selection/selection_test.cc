#include "tools/experiments/selection/selection.h"

#include <cmath>
#include <functional>
#include <numeric>

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

// Of each position the kind of its token.
Tensor KindsOf(const Tensor& tokens, const std::function<int(int64_t)>& kind) {
  Tensor kinds = Tensor::Uninitialized(tokens.shape(), kI64);
  for (int64_t i = 0; i < tokens.elements(); ++i) {
    kinds.mutable_data<int64_t>()[i] = kind(tokens.data<int64_t>()[i]);
  }
  return kinds;
}

Tensor Tokens() { return Tensor::Of<int64_t>({2, 5}, {0, 1, 5, 0, 2, 4, 0, 0, 3, 5}); }

TEST(SelectionTest, StepsAreTheMeansOfDeltaByKind) {
  const auto model = Model(SmallMamba(kVocabulary, 8));
  const Tensor tokens = Tokens();
  const auto kind = [](int64_t token) { return token == 0 ? 0 : token == 5 ? -1 : 1; };
  const auto steps = MeasureSteps(*model, tokens, KindsOf(tokens, kind), 3);
  ASSERT_TRUE(steps.ok()) << steps.status();
  ASSERT_EQ(steps->size(), 2);
  for (int layer = 0; layer < 2; ++layer) {
    double sum[2] = {0, 0}, count[2] = {0, 0}, of_channel_3 = 0;
    Hooks hooks;
    hooks.Read(absl::StrCat("blocks.", layer, ".*.hook_delta"),
               [&](absl::string_view, const Tensor& delta) {
                 for (int64_t i = 0; i < 10; ++i) {
                   const int k = kind(tokens.data<int64_t>()[i]);
                   if (k < 0) continue;
                   for (int64_t c = 0; c < delta.dim(2); ++c, ++count[k]) {
                     sum[k] += delta.data<float>()[i * delta.dim(2) + c];
                   }
                   if (k == 1) of_channel_3 += delta.data<float>()[i * delta.dim(2) + 3];
                 }
               });
    ASSERT_TRUE(model->Run({tokens}, &hooks).ok());
    EXPECT_EQ((*steps)[layer].layer, layer);
    for (int k = 0; k < 2; ++k) {
      const std::vector<double>& channels = (*steps)[layer].of_channel[k];
      EXPECT_NEAR(std::accumulate(channels.begin(), channels.end(), 0.0) / 16, sum[k] / count[k],
                  1e-9);
    }
    ASSERT_EQ((*steps)[layer].of_channel[1].size(), 16);
    EXPECT_NEAR((*steps)[layer].of_channel[1][3], of_channel_3 * 16 / count[1], 1e-9);
    EXPECT_TRUE(std::isnan((*steps)[layer].of_channel[2][0])) << "no token is of that kind";
  }
}

TEST(SelectionTest, AttentionHasNoStep) {
  const auto model = Model(SmallAttention(kVocabulary, 8, Positions::kRotary, 8));
  const auto steps = MeasureSteps(*model, Tokens(), Tensor::Zeros({2, 5}, kI64), 1);
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
  const auto unit = WhoReadsFrom(*model, Tokens(), {1, 3}, 1);
  ASSERT_TRUE(unit.ok()) << unit.status();
  EXPECT_EQ(unit->name, name);
  EXPECT_NEAR(unit->share, best, 1e-6);
  // The whole row, and what is past it, hold all that is read.
  const auto all = WhoReadsFrom(*model, Tokens(), {0, 0}, 9);
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_NEAR(all->share, 1, 1e-5);
}

TEST(SelectionTest, ReadingIsTheMeanOfPatternsByKind) {
  const auto model = Model(SmallAttention(kVocabulary, 8, Positions::kRotary, 8));
  const Tensor tokens = Tokens();
  const auto kind = [](int64_t token) { return token == 0 ? 0 : token == 5 ? 2 : 1; };
  std::vector<Tensor> patterns;
  Hooks hooks;
  hooks.Read("blocks.*.attn.hook_pattern",
             [&](absl::string_view, const Tensor& x) { patterns.push_back(x); });
  ASSERT_TRUE(model->Run({tokens}, &hooks).ok());
  const auto reading = MeasureReading(*model, tokens, KindsOf(tokens, kind), 4, 2);
  ASSERT_TRUE(reading.ok()) << reading.status();
  ASSERT_EQ(reading->size(), 2);
  for (int layer = 0; layer < 2; ++layer) {
    // Token 5 stands at 2 of row 0, with kinds 0 1 before it, and at 4 of row 1: 1 0 0 1.
    double zero = 0, other = 0;
    for (int head = 0; head < 4; ++head) {
      const float* of_row0 = patterns[layer].data<float>() + (head * 5 + 2) * 5;
      const float* of_row1 = patterns[layer].data<float>() + ((4 + head) * 5 + 4) * 5;
      zero += of_row0[0] + of_row1[1] + of_row1[2];
      other += of_row0[1] + of_row1[0] + of_row1[3];
    }
    const std::vector<double>& of_kind = (*reading)[layer].of_kind;
    EXPECT_EQ((*reading)[layer].layer, layer);
    EXPECT_NEAR(of_kind[0], zero / 12, 1e-6);
    EXPECT_NEAR(of_kind[1], other / 12, 1e-6);
    EXPECT_TRUE(std::isnan(of_kind[2])) << "it is not before itself";
    EXPECT_TRUE(std::isnan(of_kind[3])) << "no token is of that kind";
  }
}

TEST(SelectionTest, ChannelsOfMambaRead) {
  const auto model = Model(SmallMamba(kVocabulary, 8));
  const auto unit = WhoReadsFrom(*model, Tokens(), {1, 3}, 1);
  ASSERT_TRUE(unit.ok()) << unit.status();
  EXPECT_GT(unit->share, 0);
  EXPECT_LE(unit->share, 1);
  EXPECT_THAT(unit->name, ::testing::MatchesRegex("L[01]C[0-9]+"));
}

}  // namespace
}  // namespace residual
