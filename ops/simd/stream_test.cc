#include "ops/simd/stream.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tensor/testing/op_case.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/simd/stream_test.cc"
#include "hwy/foreach_target.h"
// After foreach_target:
#include "hwy/highway.h"
#include "ops/simd/stream-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// y = 2 x by WriteRow.
void DoubledImpl(const float* x, float* y, int64_t n, bool stream) {
  const hn::ScalableTag<float> d;
  WriteRow(
      d, y, n, stream,
      [&](int64_t i) HWY_ATTR { return hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, x + i)); },
      [&](int64_t i, int64_t count) HWY_ATTR {
        const auto part = LoadPart(d, x + i, count, 0);
        return hn::Add(part, part);
      });
  hwy::FlushStream();
}

}  // namespace HWY_NAMESPACE
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace {

HWY_EXPORT(DoubledImpl);

class StreamTest : public EachTarget {};
RESIDUAL_EACH_TARGET(StreamTest);

// Any length at any alignment, and nothing beside it.
TEST_P(StreamTest, WritesTheRowAndNothingElse) {
  std::vector<float> x(200);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i + 1);
  for (const bool stream : {false, true}) {
    for (int64_t shift = 0; shift < 17; ++shift) {
      for (const int64_t n : {0, 1, 3, 15, 16, 17, 31, 33, 64, 67, 131}) {
        std::vector<float> y(200, -1);
        HWY_DYNAMIC_DISPATCH(DoubledImpl)(x.data(), y.data() + shift, n, stream);
        for (int64_t i = 0; i < 200; ++i) {
          const bool inside = i >= shift && i < shift + n;
          ASSERT_EQ(y[i], inside ? 2 * x[i - shift] : -1) << n << " from " << shift << ": " << i;
        }
      }
    }
  }
}

TEST(PastCachesTest, LargeResultsAre) {
  EXPECT_FALSE(PastCaches(0));
  EXPECT_FALSE(PastCaches((size_t{16} << 20) - 1));
  EXPECT_TRUE(PastCaches(size_t{16} << 20));
}

}  // namespace
}  // namespace residual
#endif  // HWY_ONCE
