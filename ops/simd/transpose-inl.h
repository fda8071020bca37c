// Turns a matrix of f32, or of any four bytes, in squares of four in registers. Included once per
// Highway target.

#if defined(RESIDUAL_OPS_SIMD_TRANSPOSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESIDUAL_OPS_SIMD_TRANSPOSE_INL_H_
#undef RESIDUAL_OPS_SIMD_TRANSPOSE_INL_H_
#else
#define RESIDUAL_OPS_SIMD_TRANSPOSE_INL_H_
#endif

#include <cstdint>
#include <cstring>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// out[c][r] = factor * in[r][c] for r < rows, c < columns; kBits: unmultiplied, whatever four bytes
// they are.
template <bool kBits = false>
void Transpose(int64_t rows, int64_t columns, float factor, const float* in, int64_t in_stride,
               float* out, int64_t out_stride) {
  int64_t whole_rows = 0, whole_columns = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::Full128<float> d;
  const auto factors = hn::Set(d, factor);
  auto load = [&](const float* from) HWY_ATTR {
    return kBits ? hn::LoadU(d, from) : hn::Mul(factors, hn::LoadU(d, from));
  };
  whole_rows = rows / 4 * 4, whole_columns = columns / 4 * 4;
  for (int64_t c = 0; c < whole_columns; c += 4) {
    for (int64_t r = 0; r < whole_rows; r += 4) {
      const float* from = in + r * in_stride + c;
      const auto a0 = load(from), a1 = load(from + in_stride);
      const auto a2 = load(from + 2 * in_stride), a3 = load(from + 3 * in_stride);
      const auto even = hn::InterleaveLower(d, a0, a2), even_up = hn::InterleaveUpper(d, a0, a2);
      const auto odd = hn::InterleaveLower(d, a1, a3), odd_up = hn::InterleaveUpper(d, a1, a3);
      float* to = out + c * out_stride + r;
      hn::StoreU(hn::InterleaveLower(d, even, odd), d, to);
      hn::StoreU(hn::InterleaveUpper(d, even, odd), d, to + out_stride);
      hn::StoreU(hn::InterleaveLower(d, even_up, odd_up), d, to + 2 * out_stride);
      hn::StoreU(hn::InterleaveUpper(d, even_up, odd_up), d, to + 3 * out_stride);
    }
  }
#endif
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = r < whole_rows ? whole_columns : 0; c < columns; ++c) {
      if (kBits) {
        std::memcpy(out + c * out_stride + r, in + r * in_stride + c, sizeof(float));
      } else {
        out[c * out_stride + r] = factor * in[r * in_stride + c];
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace residual
HWY_AFTER_NAMESPACE();

#endif  // RESIDUAL_OPS_SIMD_TRANSPOSE_INL_H_
