#include "ops/simd/instruction_set.h"

#include "gtest/gtest.h"
#include "hwy/highway.h"

namespace residual {
namespace {

TEST(InstructionSetTest, IsTheBestThereIs) {
  // Highway lists the best first.
  EXPECT_EQ(InstructionSet(), hwy::TargetName(hwy::SupportedAndGeneratedTargets()[0]));
  const int64_t worst = hwy::SupportedAndGeneratedTargets().back();
  hwy::SetSupportedTargetsForTest(worst);
  EXPECT_EQ(InstructionSet(), hwy::TargetName(worst));
  hwy::SetSupportedTargetsForTest(0);
}

}  // namespace
}  // namespace residual
