#include <algorithm>
#include <cmath>
#include <cstdint>

#include "ops/reduce/reduce_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/reduce/reduce_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/highway.h"
#include "ops/simd/convert-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace reduce_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using residual::HWY_NAMESPACE::LoadWidened;
using residual::HWY_NAMESPACE::Widened;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// Vectors added in f32 before the sum joins an f64: with four accumulators each sees 16.
constexpr int64_t kBlock = 64;

template <class T>
double Sum(const T* x, int64_t n) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  double total = 0;
  int64_t i = 0;
  while (i + lanes <= n) {
    const int64_t end = std::min(i + kBlock * lanes, n / lanes * lanes);
    V a = hn::Zero(d), b = a, c = a, e = a;
    for (; i + 4 * lanes <= end; i += 4 * lanes) {
      a = hn::Add(a, LoadWidened(d, x + i));
      b = hn::Add(b, LoadWidened(d, x + i + lanes));
      c = hn::Add(c, LoadWidened(d, x + i + 2 * lanes));
      e = hn::Add(e, LoadWidened(d, x + i + 3 * lanes));
    }
    for (; i < end; i += lanes) a = hn::Add(a, LoadWidened(d, x + i));
    total += hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(a, b), hn::Add(c, e))));
  }
  for (; i < n; ++i) total += Widened(x[i]);
  return total;
}

template <class T>
double SumOfSquares(const T* x, int64_t n) {
  double total = 0;
  int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<double> d64;
  const hn::Rebind<float, decltype(d64)> half;
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto low = hn::Zero(d64), high = low;
  for (; i + lanes <= n; i += lanes) {
    const V v = LoadWidened(d, x + i);
    const auto a = hn::PromoteTo(d64, hn::LowerHalf(half, v));
    const auto b = hn::PromoteTo(d64, hn::UpperHalf(half, v));
    low = hn::MulAdd(a, a, low);
    high = hn::MulAdd(b, b, high);
  }
  total = hn::GetLane(hn::SumOfLanes(d64, hn::Add(low, high)));
#endif
  for (; i < n; ++i) total += static_cast<double>(Widened(x[i])) * Widened(x[i]);
  return total;
}

// Row by row, so that memory is read in order; four rows at a time into sums that stay in the L1.
template <class T>
void SumRows(const T* x, int64_t rows, int64_t stride, int64_t columns, double* sums) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), whole = columns / lanes * lanes;
  HWY_ALIGN float part[kMaxColumns];
  std::fill_n(sums, columns, 0.0);
  for (int64_t begin = 0; begin < rows; begin += kBlock) {
    const int64_t end = std::min(rows, begin + kBlock);
    std::fill_n(part, columns, 0.0f);
    int64_t r = begin;
    for (; r + 4 <= end; r += 4) {
      const T* row = x + r * stride;
      for (int64_t c = 0; c < whole; c += lanes) {
        const V ab = hn::Add(LoadWidened(d, row + c), LoadWidened(d, row + stride + c));
        const V ce =
            hn::Add(LoadWidened(d, row + 2 * stride + c), LoadWidened(d, row + 3 * stride + c));
        hn::Store(hn::Add(hn::Load(d, part + c), hn::Add(ab, ce)), d, part + c);
      }
      for (int64_t c = whole; c < columns; ++c) {
        part[c] += (Widened(row[c]) + Widened(row[stride + c])) +
                   (Widened(row[2 * stride + c]) + Widened(row[3 * stride + c]));
      }
    }
    for (; r < end; ++r) {
      const T* row = x + r * stride;
      for (int64_t c = 0; c < whole; c += lanes) {
        hn::Store(hn::Add(hn::Load(d, part + c), LoadWidened(d, row + c)), d, part + c);
      }
      for (int64_t c = whole; c < columns; ++c) part[c] += Widened(row[c]);
    }
    for (int64_t c = 0; c < columns; ++c) sums[c] += part[c];
  }
}

// Two passes: the largest value, or whether there is a NaN; then the first place of either.
template <class T>
int64_t ArgMax(const T* x, int64_t n) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), whole = n / lanes * lanes;
  float largest = Widened(x[0]);
  bool nan = false;
  int64_t i = 0;
  if (whole > 0) {
    V a = LoadWidened(d, x), b = a;
    auto nans = hn::IsNaN(a);
    for (; i + 2 * lanes <= whole; i += 2 * lanes) {
      const V u = LoadWidened(d, x + i), v = LoadWidened(d, x + i + lanes);
      a = hn::Max(a, u);
      b = hn::Max(b, v);
      nans = hn::Or(nans, hn::Or(hn::IsNaN(u), hn::IsNaN(v)));
    }
    for (; i < whole; i += lanes) {
      const V u = LoadWidened(d, x + i);
      a = hn::Max(a, u);
      nans = hn::Or(nans, hn::IsNaN(u));
    }
    nan = !hn::AllFalse(d, nans);
    largest = hn::GetLane(hn::MaxOfLanes(d, hn::Max(a, b)));
  }
  for (; i < n; ++i) {
    const float value = Widened(x[i]);
    nan = nan || std::isnan(value);
    if (value > largest) largest = value;
  }
  const V target = hn::Set(d, largest);
  for (i = 0; i < whole; i += lanes) {
    const V v = LoadWidened(d, x + i);
    const auto found = nan ? hn::IsNaN(v) : hn::Eq(v, target);
    const intptr_t first = hn::FindFirstTrue(d, found);
    if (first >= 0) return i + first;
  }
  for (; i < n; ++i) {
    const float value = Widened(x[i]);
    if (nan ? std::isnan(value) : value == largest) return i;
  }
  return 0;
}

template <class T, int kN>
void ArgMaxColumns(const T* x, int64_t rows, int64_t stride, int64_t* indices) {
  const D d;
  const hn::RebindToUnsigned<D> d32;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  V best[kN];
  hn::Vec<decltype(d32)> index[kN];
#pragma GCC unroll 4
  for (int u = 0; u < kN; ++u) {
    best[u] = LoadWidened(d, x + u * lanes);
    index[u] = hn::Zero(d32);
  }
  for (int64_t r = 1; r < rows; ++r) {
    const auto row = hn::Set(d32, static_cast<uint32_t>(r));
#pragma GCC unroll 4
    for (int u = 0; u < kN; ++u) {
      const V v = LoadWidened(d, x + r * stride + u * lanes);
      // Larger, or the first NaN.
      const auto nan = hn::And(hn::IsNaN(v), hn::Not(hn::IsNaN(best[u])));
      const auto take = hn::Or(hn::Gt(v, best[u]), nan);
      best[u] = hn::IfThenElse(take, v, best[u]);
      index[u] = hn::IfThenElse(hn::RebindMask(d32, take), row, index[u]);
    }
  }
  HWY_ALIGN uint32_t found[kN * HWY_MAX_BYTES / sizeof(uint32_t)];
#pragma GCC unroll 4
  for (int u = 0; u < kN; ++u) hn::Store(index[u], d32, found + u * lanes);
  for (int64_t c = 0; c < kN * lanes; ++c) indices[c] = found[c];
}

template <class T>
void ArgMaxRows(const T* x, int64_t rows, int64_t stride, int64_t columns, int64_t* indices) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  int64_t c = 0;
  for (; c + 4 * lanes <= columns; c += 4 * lanes) {
    ArgMaxColumns<T, 4>(x + c, rows, stride, indices + c);
  }
  for (; c + lanes <= columns; c += lanes) {
    ArgMaxColumns<T, 1>(x + c, rows, stride, indices + c);
  }
  for (; c < columns; ++c) {
    int64_t best = 0;
    for (int64_t r = 1; r < rows; ++r) {
      const float largest = Widened(x[best * stride + c]), value = Widened(x[r * stride + c]);
      if (value > largest || (std::isnan(value) && !std::isnan(largest))) best = r;
    }
    indices[c] = best;
  }
}

// Highway exports functions, not templates.
#define RESIDUAL_REDUCE_KERNELS(T, Suffix)                                                        \
  double Sum##Suffix(const T* x, int64_t n) { return Sum(x, n); }                                 \
  double SumOfSquares##Suffix(const T* x, int64_t n) { return SumOfSquares(x, n); }               \
  void SumRows##Suffix(const T* x, int64_t rows, int64_t stride, int64_t columns, double* sums) { \
    SumRows(x, rows, stride, columns, sums);                                                      \
  }                                                                                               \
  int64_t ArgMax##Suffix(const T* x, int64_t n) { return ArgMax(x, n); }                          \
  void ArgMaxRows##Suffix(const T* x, int64_t rows, int64_t stride, int64_t columns,              \
                          int64_t* indices) {                                                     \
    ArgMaxRows(x, rows, stride, columns, indices);                                                \
  }
RESIDUAL_REDUCE_KERNELS(float, F32)
RESIDUAL_REDUCE_KERNELS(BFloat16, BF16)
#undef RESIDUAL_REDUCE_KERNELS

}  // namespace HWY_NAMESPACE
}  // namespace reduce_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace reduce_internal {

#define RESIDUAL_REDUCE_KERNELS(T, Suffix)                                                        \
  HWY_EXPORT(Sum##Suffix);                                                                        \
  HWY_EXPORT(SumOfSquares##Suffix);                                                               \
  HWY_EXPORT(SumRows##Suffix);                                                                    \
  HWY_EXPORT(ArgMax##Suffix);                                                                     \
  HWY_EXPORT(ArgMaxRows##Suffix);                                                                 \
  double SumCpu(const T* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(Sum##Suffix)(x, n); }        \
  double SumOfSquaresCpu(const T* x, int64_t n) {                                                 \
    return HWY_DYNAMIC_DISPATCH(SumOfSquares##Suffix)(x, n);                                      \
  }                                                                                               \
  void SumRowsCpu(const T* x, int64_t rows, int64_t stride, int64_t columns, double* sums) {      \
    HWY_DYNAMIC_DISPATCH(SumRows##Suffix)(x, rows, stride, columns, sums);                        \
  }                                                                                               \
  int64_t ArgMaxCpu(const T* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(ArgMax##Suffix)(x, n); } \
  void ArgMaxRowsCpu(const T* x, int64_t rows, int64_t stride, int64_t columns,                   \
                     int64_t* indices) {                                                          \
    HWY_DYNAMIC_DISPATCH(ArgMaxRows##Suffix)(x, rows, stride, columns, indices);                  \
  }
RESIDUAL_REDUCE_KERNELS(float, F32)
RESIDUAL_REDUCE_KERNELS(BFloat16, BF16)
#undef RESIDUAL_REDUCE_KERNELS

}  // namespace reduce_internal
}  // namespace residual
#endif  // HWY_ONCE
