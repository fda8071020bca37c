#include "models/stream/token_mask.h"

#include <vector>

#include "gtest/gtest.h"

namespace residual {
namespace {

using Numbers = std::vector<double>;

TEST(TokenMaskTest, IsOneWhereThisCallHasTokens) {
  MixerContext context;
  EXPECT_FALSE(TokenMask(context, 2, 3, kF32).defined());
  // Of five positions the last three are this call's.
  context.key_mask = Tensor::Uninitialized({2, 5}, kBool);
  for (int64_t i = 0; i < 10; ++i) context.key_mask.mutable_data<bool>()[i] = i != 0 && i != 7;
  const Tensor mask = TokenMask(context, 2, 3, kF64);
  EXPECT_EQ(mask.shape(), Shape({2, 3, 1}));
  EXPECT_EQ(mask.dtype(), kF64);
  EXPECT_EQ(mask.ToDoubles(), (Numbers{1, 1, 1, 0, 1, 1}));
  // Padding that lies in the past changes nothing here.
  EXPECT_FALSE(TokenMask(context, 2, 2, kF32).defined());
}

TEST(TokenMaskTest, ZerosWhatIsPadding) {
  const Tensor x = Tensor::Of<float>({1, 2, 2}, {1, 2, 3, 4});
  EXPECT_EQ(Masked(x, Tensor::Of<float>({1, 2, 1}, {0, 1})).ToDoubles(), (Numbers{0, 0, 3, 4}));
  EXPECT_EQ(Masked(x, Tensor()).ToDoubles(), x.ToDoubles());
}

}  // namespace
}  // namespace residual
