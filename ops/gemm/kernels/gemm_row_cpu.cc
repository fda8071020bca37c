// One row against rows of columns: b is read once, as one stream, and its rows are added up in the
// first cache. With the weights of GPT-2 small mapped from a file, two threads of a prototype read
// 31 GB/s of bf16 this way, row by row in a stream of their own each; 30 four rows at a time; 25
// where the threads split the columns, and read short pieces of eight rows at a time.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/gemm/kernels/gemm_row_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target:
#include "hwy/highway.h"
#include "ops/gemm/kernels/gemm_kernels.h"
#include "ops/simd/convert-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace gemm_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using residual::HWY_NAMESPACE::LoadWidened;
using residual::HWY_NAMESPACE::Widened;

// y = or += a b for one row of b.
template <bool kAdd, class S>
HWY_INLINE void AddRow(float a, const S* HWY_RESTRICT b, int64_t n, float* HWY_RESTRICT y) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto x = hn::Set(d, a);
  int64_t j = 0;
  for (; j + 4 * lanes <= n; j += 4 * lanes) {
#pragma GCC unroll 4
    for (int64_t v = 0; v < 4; ++v) {
      const S* from = b + j + v * lanes;
      float* to = y + j + v * lanes;
      if (v * lanes * sizeof(S) % 64 == 0) PrefetchToSecond(from + kOneStreamAhead / sizeof(S));
      const auto column = LoadWidened(d, from);
      hn::StoreU(kAdd ? hn::MulAdd(x, column, hn::LoadU(d, to)) : hn::Mul(x, column), d, to);
    }
  }
  for (; j + lanes <= n; j += lanes) {
    const auto column = LoadWidened(d, b + j);
    hn::StoreU(kAdd ? hn::MulAdd(x, column, hn::LoadU(d, y + j)) : hn::Mul(x, column), d, y + j);
  }
  for (; j < n; ++j) y[j] = (kAdd ? y[j] : 0) + a * Widened(b[j]);
}

template <class S>
void SumRowsOf(const RowArgs& args) {
  const S* b = static_cast<const S*>(args.b);
  AddRow<false>(args.a[0], b, args.n, args.y);
  for (int64_t k = 1; k < args.k; ++k) AddRow<true>(args.a[k], b + k * args.n, args.n, args.y);
}

void SumRowsImpl(DType dtype, const RowArgs& args) {
  if (dtype == kBF16) return SumRowsOf<BFloat16>(args);
  if (dtype == kF16) return SumRowsOf<Float16>(args);
  SumRowsOf<float>(args);
}

void AddPartsImpl(const float* parts, int64_t count, int64_t n, const float* bias, float* y) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t j = 0;
  for (; j + lanes <= n; j += lanes) {
    auto sum = hn::LoadU(d, parts + j);
    for (int64_t p = 1; p < count; ++p) sum = hn::Add(sum, hn::LoadU(d, parts + p * n + j));
    if (bias != nullptr) sum = hn::Add(sum, hn::LoadU(d, bias + j));
    hn::StoreU(sum, d, y + j);
  }
  for (; j < n; ++j) {
    float sum = parts[j];
    for (int64_t p = 1; p < count; ++p) sum += parts[p * n + j];
    y[j] = bias != nullptr ? sum + bias[j] : sum;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gemm_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace gemm_internal {

HWY_EXPORT(SumRowsImpl);
HWY_EXPORT(AddPartsImpl);

void SumRows(DType dtype, const RowArgs& args) { HWY_DYNAMIC_DISPATCH(SumRowsImpl)(dtype, args); }
void AddParts(const float* parts, int64_t count, int64_t n, const float* bias, float* y) {
  HWY_DYNAMIC_DISPATCH(AddPartsImpl)(parts, count, n, bias, y);
}

}  // namespace gemm_internal
}  // namespace residual
#endif  // HWY_ONCE
