#include "interp/ablation/ablation.h"

#include <cmath>
#include <limits>
#include <set>

#include "gtest/gtest.h"
#include "interp/testing/planted_circuit.h"
#include "models/train/data.h"

namespace residual {
namespace {

// Eight different tokens twice, and what follows each.
const std::vector<int64_t> kRow = {3, 1, 4, 15, 9, 2, 6, 5, 3, 1, 4, 15, 9, 2, 6, 5, 3};

TrainingBatch RepeatedPassage() {
  return {Tensor::Of<int64_t>({1, 16}, absl::MakeConstSpan(kRow).first(16)),
          Tensor::Of<int64_t>({1, 16}, absl::MakeConstSpan(kRow).last(16))};
}

TEST(AblationTest, ThePlantedCircuitPredictsTheSecondCopyAndNothingElse) {
  const auto model = PlantedInductionModel();
  const TrainingBatch batch = RepeatedPassage();
  const std::vector<double> losses = *LossByPosition(*model, batch.tokens, batch.targets);
  ASSERT_EQ(losses.size(), 16);
  for (int i = 0; i < 7; ++i) EXPECT_GT(losses[i], 1) << i;
  for (int i = 8; i < 16; ++i) EXPECT_LT(losses[i], 1e-9) << i;
  EXPECT_LT(InContextScore(losses), -1);

  // Either head of the circuit is needed; the idle ones are not.
  for (const HeadIndex& head : {HeadIndex{0, 0}, HeadIndex{1, 0}}) {
    const auto without = *LossByPosition(*model, batch.tokens, batch.targets, {head});
    for (int i = 8; i < 16; ++i) EXPECT_GT(without[i], 1) << i;
  }
  const auto idle = *LossByPosition(*model, batch.tokens, batch.targets, {{0, 1}, {1, 1}});
  for (int i = 0; i < 16; ++i) EXPECT_NEAR(idle[i], losses[i], 1e-12) << i;
}

TEST(AblationTest, FrozenPatternsKeepWhatTheOtherHeadsSee) {
  const auto model = PlantedInductionModel();
  const TrainingBatch batch = RepeatedPassage();
  const std::vector<Tensor> patterns = *ReadPatterns(*model, batch.tokens);
  auto loss = [&](const std::vector<HeadIndex>& ablated) {
    return *LossByPosition(*model, batch.tokens, batch.targets, ablated, patterns);
  };
  const std::vector<double> intact = *LossByPosition(*model, batch.tokens, batch.targets);
  // The previous-token head serves only to steer the induction head's look.
  for (int i = 0; i < 16; ++i) EXPECT_NEAR(loss({})[i], intact[i], 1e-12);
  for (int i = 0; i < 16; ++i) EXPECT_NEAR(loss({{0, 0}})[i], intact[i], 1e-12);
  // The induction head's own output is what predicts.
  for (int i = 8; i < 16; ++i) EXPECT_GT(loss({{1, 0}})[i], 1) << i;
}

TEST(AblationTest, WithoutAnyHeadTheLossIsThatOfTheToken) {
  // The stream is then the token itself: its own logit is 1, all others 0.
  const auto model = PlantedInductionModel();
  const TrainingBatch batch = RepeatedPassage();
  const auto losses =
      *LossByPosition(*model, batch.tokens, batch.targets, {{0, 0}, {0, 1}, {1, 0}, {1, 1}});
  for (double loss : losses) EXPECT_NEAR(loss, std::log(19 + std::exp(1.0)), 1e-12);
}

TEST(AblationTest, MeansAreOverRowsThatHaveATarget) {
  const auto model = PlantedInductionModel();
  const Tensor tokens = Tensor::Of<int64_t>({2, 3}, {1, 2, 3, 4, 5, 6});
  const Tensor targets =
      Tensor::Of<int64_t>({2, 3}, {2, kIgnoreTarget, 4, 5, kIgnoreTarget, kIgnoreTarget});
  const auto both = *LossByPosition(*model, tokens, targets);
  const auto first = *LossByPosition(*model, tokens.Rows(0, 1), targets.Rows(0, 1));
  const auto second = *LossByPosition(*model, tokens.Rows(1, 2), targets.Rows(1, 2));
  EXPECT_NEAR(both[0], (first[0] + second[0]) / 2, 1e-12);
  EXPECT_TRUE(std::isnan(both[1]));
  EXPECT_NEAR(both[2], first[2], 1e-12);
}

TEST(AblationTest, BadTokensAreAnError) {
  const auto model = PlantedInductionModel();
  const Tensor tokens = Tensor::Of<int64_t>({1, 2}, {1, 99});
  EXPECT_EQ(LossByPosition(*model, tokens, tokens).status().code(),
            absl::StatusCode::kInvalidArgument);
  // A head that the model does not have.
  const TrainingBatch batch = RepeatedPassage();
  EXPECT_EQ(LossByPosition(*model, batch.tokens, batch.targets, {{1, 2}}).status().message(),
            "the model has no head L1H2: layer 1 has 2 heads");
  EXPECT_EQ(LossByPosition(*model, batch.tokens, batch.targets, {{7, 0}}).status().message(),
            "the model has no head L7H0: it has 2 layers");
}

TEST(AblationTest, InContextScoreIsLateMinusEarly) {
  std::vector<double> losses(64, 2.0);
  EXPECT_EQ(InContextScore(losses), 0);
  for (int i = 4; i < 8; ++i) losses[i] = 5;    // between the 16th and the eighth part
  for (int i = 56; i < 64; ++i) losses[i] = 1;  // the last eighth
  EXPECT_EQ(InContextScore(losses), -4);
  losses[60] = std::numeric_limits<double>::quiet_NaN();  // no target there
  EXPECT_EQ(InContextScore(losses), -4);
  EXPECT_EQ(InContextScore({}), 0);
  EXPECT_EQ(InContextScore({3}), 0);
  EXPECT_EQ(InContextScore({3, 1}), -2);
}

TEST(AblationTest, RandomSetsAreDifferentAndOfTheCandidates) {
  std::vector<HeadIndex> candidates;
  for (int head = 0; head < 6; ++head) candidates.push_back({head / 3, head % 3});
  const auto sets = RandomHeadSets(candidates, 2, 10, 4);
  EXPECT_EQ(sets.size(), 10);  // of 15
  std::set<std::vector<int>> seen;
  for (const auto& set : sets) {
    ASSERT_EQ(set.size(), 2);
    EXPECT_FALSE(set[0] == set[1]);
    std::vector<int> key;
    for (const HeadIndex& head : set) {
      EXPECT_NE(std::find(candidates.begin(), candidates.end(), head), candidates.end());
      key.push_back(head.layer * 3 + head.head);
    }
    EXPECT_TRUE(seen.insert(key).second);
  }
  EXPECT_EQ(RandomHeadSets(candidates, 2, 10, 4), sets);
  EXPECT_EQ(RandomHeadSets(candidates, 6, 10, 4).size(), 1);  // there is one
  EXPECT_EQ(RandomHeadSets(candidates, 2, 100, 4).size(), 15);
  EXPECT_TRUE(RandomHeadSets({}, 2, 10, 4).empty());
  EXPECT_TRUE(RandomHeadSets(candidates, 0, 10, 4).empty());
}

}  // namespace
}  // namespace residual
