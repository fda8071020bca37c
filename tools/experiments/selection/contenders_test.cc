#include "tools/experiments/selection/contenders.h"

#include <algorithm>
#include <cmath>

#include "gtest/gtest.h"
#include "models/zoo/zoo.h"

namespace residual {
namespace {

// What a model says at the last token, with something else in place of an early one.
float ChangeAtTheEnd(const ResidualModel& model) {
  Tensor tokens = Tensor::Of<int64_t>({1, 6}, {1, 2, 3, 1, 2, 0});
  const Tensor before = model.Forward({tokens});
  const Tensor after = model.Forward({Tensor::Of<int64_t>({1, 6}, {4, 2, 3, 1, 2, 0})});
  float change = 0;
  for (int64_t i = 5 * model.d_vocab(); i < 6 * model.d_vocab(); ++i) {
    change = std::max(change, std::abs(after.data<float>()[i] - before.data<float>()[i]));
  }
  return change;
}

TEST(ContendersTest, HaveTwoLayersThatReadThePast) {
  for (const nlohmann::json& config :
       {SmallMamba(7, 16), SmallAttention(7, 16, Positions::kLearned, 32),
        SmallAttention(7, 16, Positions::kRotary, 32), SmallS4(7, 16, 32)}) {
    const auto model = ModelFromConfig(config, "the test's model");
    ASSERT_TRUE(model.ok()) << model.status();
    Initialize(**model, 1);
    EXPECT_EQ((*model)->n_layers(), 2);
    EXPECT_EQ((*model)->d_model(), 16);
    EXPECT_EQ((*model)->d_vocab(), 7);
    EXPECT_GT(ChangeAtTheEnd(**model), 0) << config;
  }
}

}  // namespace
}  // namespace residual
