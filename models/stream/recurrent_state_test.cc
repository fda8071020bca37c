#include "models/stream/recurrent_state.h"

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace residual {
namespace {

using Numbers = std::vector<double>;

RecurrentState WindowAndSum(int64_t batch) {
  return RecurrentState(batch, {{"conv", {3, 2}}, {"ssm", {3, 4}, /*sums=*/true}});
}

TEST(RecurrentStateTest, GoesBackToTheBeginningOnly) {
  RecurrentState state = WindowAndSum(2);
  EXPECT_EQ(state.bytes(), 0u);
  state.Advance(5, {Tensor::Zeros({2, 3, 2}), Tensor::Zeros({2, 3, 4})});
  EXPECT_EQ(state.bytes(), size_t{4} * (2 * 3 * 2 + 2 * 3 * 4));
  EXPECT_TRUE(state.RollBack(5).ok());
  const absl::Status back = state.RollBack(2);
  EXPECT_EQ(back.code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(std::string(back.message()),
            "cannot roll back to 2 tokens: the state of a recurrence keeps nothing of its 5; fork "
            "it before, and go on from the fork");
  EXPECT_EQ(state.length(), 5);
  EXPECT_TRUE(state.RollBack(0).ok());
  EXPECT_EQ(state.bytes(), 0u);
  EXPECT_FALSE(state.value(0).defined());
}

TEST(RecurrentStateTest, AForkGoesOnByItself) {
  RecurrentState state(1, {{"ssm", {2}, true}});
  state.Advance(1, {Tensor::Full({1, 2}, 1)});
  const std::unique_ptr<MixerState> fork = state.Fork();
  state.Advance(1, {Tensor::Full({1, 2}, 2)});
  EXPECT_EQ(static_cast<RecurrentState&>(*fork).value(0).ToDoubles(), (Numbers{1, 1}));
  EXPECT_EQ(static_cast<RecurrentState&>(*fork).length(), 1);
  EXPECT_EQ(state.value(0).ToDoubles(), (Numbers{2, 2}));
}

TEST(RecurrentStateTest, SelectsRowsOfEveryPart) {
  RecurrentState state(2, {{"conv", {1}}, {"ssm", {2}, true}});
  state.Advance(3, {Tensor::Of<float>({2, 1}, {1, 2}), Tensor::Of<float>({2, 2}, {3, 4, 5, 6})});
  const std::unique_ptr<MixerState> selected = state.Select({1, 1, 0});
  const auto& rows = static_cast<RecurrentState&>(*selected);
  EXPECT_EQ(rows.value(0).ToDoubles(), (Numbers{2, 2, 1}));
  EXPECT_EQ(rows.value(1).ToDoubles(), (Numbers{5, 6, 5, 6, 3, 4}));
  EXPECT_EQ(rows.length(), 3);
  EXPECT_EQ(WindowAndSum(2).Select({0})->bytes(), 0u);
}

TEST(RecurrentStateDeathTest, RefusesValuesOfOtherShapes) {
  RecurrentState state = WindowAndSum(2);
  EXPECT_DEATH(state.Advance(1, {Tensor::Zeros({2, 3, 2}), Tensor::Zeros({1, 3, 4})}), "ssm");
  EXPECT_DEATH(state.Advance(1, {Tensor::Zeros({2, 3, 2})}), "");
}

}  // namespace
}  // namespace residual
