#include <cstdint>
#include <cstring>
#include <vector>

#include "gtest/gtest.h"
#include "tensor/testing/op_case.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/simd/transpose_test.cc"
#include "hwy/foreach_target.h"
// After foreach_target:
#include "hwy/highway.h"
#include "ops/simd/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace HWY_NAMESPACE {

void TransposeImpl(bool bits, int64_t rows, int64_t columns, float factor, const float* in,
                   int64_t in_stride, float* out, int64_t out_stride) {
  if (bits) {
    Transpose<true>(rows, columns, factor, in, in_stride, out, out_stride);
  } else {
    Transpose(rows, columns, factor, in, in_stride, out, out_stride);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace {

HWY_EXPORT(TransposeImpl);

class TransposeTest : public EachTarget {};
RESIDUAL_EACH_TARGET(TransposeTest);

TEST_P(TransposeTest, TurnsEveryElementAndTouchesNothingElse) {
  for (const int64_t rows : {0, 1, 3, 4, 5, 8, 17}) {
    for (const int64_t columns : {0, 1, 3, 4, 7, 12, 19}) {
      const int64_t in_stride = columns + 2, out_stride = rows + 3;
      std::vector<float> in((rows + 1) * in_stride);
      for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i + 1);
      std::vector<float> out((columns + 1) * out_stride, -1);
      HWY_DYNAMIC_DISPATCH(TransposeImpl)
      (false, rows, columns, 0.5f, in.data(), in_stride, out.data(), out_stride);
      for (int64_t c = 0; c <= columns; ++c) {
        for (int64_t r = 0; r < out_stride; ++r) {
          const bool inside = c < columns && r < rows;
          ASSERT_EQ(out[c * out_stride + r], inside ? 0.5f * in[r * in_stride + c] : -1)
              << rows << " x " << columns << " at " << r << ", " << c;
        }
      }
    }
  }
}

// As pairs of 16-bit numbers have them: signalling NaNs too keep their bits.
TEST_P(TransposeTest, KeepsAnyBits) {
  constexpr int64_t kRows = 6, kColumns = 9;
  std::vector<uint32_t> bits(kRows * kColumns);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = 0x7f800001u + static_cast<uint32_t>(i) * 77;
  std::vector<float> in(bits.size()), out(bits.size());
  std::memcpy(in.data(), bits.data(), 4 * bits.size());
  HWY_DYNAMIC_DISPATCH(TransposeImpl)
  (true, kRows, kColumns, 3, in.data(), kColumns, out.data(), kRows);
  std::vector<uint32_t> got(bits.size());
  std::memcpy(got.data(), out.data(), 4 * bits.size());
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t c = 0; c < kColumns; ++c) {
      ASSERT_EQ(got[c * kRows + r], bits[r * kColumns + c]) << r << ", " << c;
    }
  }
}

}  // namespace
}  // namespace residual
#endif  // HWY_ONCE
