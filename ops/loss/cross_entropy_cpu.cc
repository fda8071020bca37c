#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/loss/cross_entropy_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target:
#include <algorithm>
#include <cmath>
#include <limits>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "ops/loss/cross_entropy_kernels.h"
#include "ops/simd/convert-inl.h"
#include "ops/simd/vec_math-inl.h"
#include "tensor/core/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace loss_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using residual::HWY_NAMESPACE::ExpOfNonPositive;
using residual::HWY_NAMESPACE::LoadWidened;
using residual::HWY_NAMESPACE::RoundElement;
using residual::HWY_NAMESPACE::StoreRounded;
using residual::HWY_NAMESPACE::Widened;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Elements of a row whose maximum and sum are found together, while they are in the first cache.
constexpr int64_t kBlock = 2048;

// The last `count` < lanes of n elements in the upper lanes, `fill` in those below; of fewer than
// lanes elements in all, in the lower lanes.
template <class T>
V LoadLast(D d, const T* x, int64_t n, int64_t count, float fill) {
  const int64_t lanes = hn::Lanes(d);
  if (n >= lanes) {
    return hn::IfThenElse(hn::FirstN(d, lanes - count), hn::Set(d, fill),
                          LoadWidened(d, x + n - lanes));
  }
  HWY_ALIGN float values[hn::MaxLanes(d)];
  for (int64_t i = 0; i < lanes; ++i) values[i] = i < n ? Widened(x[i]) : fill;
  return hn::Load(d, values);
}

// x[0 .. n), n >= 1: exp(x - max) summed, and x summed. One pass over memory: maximum and sum of a
// block, then the sum so far is brought to the new maximum.
struct RowSums {
  double max, exp_sum, sum;
};
template <bool kWithSum, class T>
RowSums Sums(const T* HWY_RESTRICT x, int64_t n) {
  const D d;
  const int64_t lanes = hn::Lanes(d);
  RowSums row{-kInfinity, 0, 0};
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t end = std::min(n, begin + kBlock);
    // NaN is looked for apart: Max drops it on some targets.
    V max0 = hn::Set(d, -kInfinity), max1 = max0, sum = hn::Zero(d);
    auto nan = hn::IsNaN(sum);
    int64_t i = begin;
    for (; i + 2 * lanes <= end; i += 2 * lanes) {
      const V a = LoadWidened(d, x + i), b = LoadWidened(d, x + i + lanes);
      max0 = hn::Max(max0, a);
      max1 = hn::Max(max1, b);
      nan = hn::Or(nan, hn::Or(hn::IsNaN(a), hn::IsNaN(b)));
      if (kWithSum) sum = hn::Add(sum, hn::Add(a, b));
    }
    for (; i + lanes <= end; i += lanes) {
      const V a = LoadWidened(d, x + i);
      max0 = hn::Max(max0, a);
      nan = hn::Or(nan, hn::IsNaN(a));
      if (kWithSum) sum = hn::Add(sum, a);
    }
    if (i < end) {  // only in the last block
      const V a = LoadLast(d, x, n, end - i, -kInfinity);
      max0 = hn::Max(max0, a);
      nan = hn::Or(nan, hn::IsNaN(a));
      if (kWithSum) sum = hn::Add(sum, LoadLast(d, x, n, end - i, 0));
    }
    const double largest = hn::GetLane(hn::MaxOfLanes(d, hn::Max(max0, max1)));
    if (!hn::AllFalse(d, nan) || largest == kInfinity) {
      const double none = std::numeric_limits<double>::quiet_NaN();
      return {none, none, none};
    }
    if (kWithSum) row.sum += hn::GetLane(hn::SumOfLanes(d, sum));
    if (largest == -kInfinity) continue;
    if (largest > row.max) {
      if (row.exp_sum > 0) row.exp_sum *= std::exp(row.max - largest);
      row.max = largest;
    }
    const V shift = hn::Set(d, static_cast<float>(row.max));
    V sum0 = hn::Zero(d), sum1 = sum0, sum2 = sum0, sum3 = sum0;
    for (i = begin; i + 4 * lanes <= end; i += 4 * lanes) {
      sum0 = hn::Add(sum0, ExpOfNonPositive(d, hn::Sub(LoadWidened(d, x + i), shift)));
      sum1 = hn::Add(sum1, ExpOfNonPositive(d, hn::Sub(LoadWidened(d, x + i + lanes), shift)));
      sum2 = hn::Add(sum2, ExpOfNonPositive(d, hn::Sub(LoadWidened(d, x + i + 2 * lanes), shift)));
      sum3 = hn::Add(sum3, ExpOfNonPositive(d, hn::Sub(LoadWidened(d, x + i + 3 * lanes), shift)));
    }
    for (; i + lanes <= end; i += lanes) {
      sum0 = hn::Add(sum0, ExpOfNonPositive(d, hn::Sub(LoadWidened(d, x + i), shift)));
    }
    if (i < end) {
      const V a = LoadLast(d, x, n, end - i, -kInfinity);
      sum1 = hn::Add(sum1, ExpOfNonPositive(d, hn::Sub(a, shift)));
    }
    row.exp_sum +=
        hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3))));
  }
  if (row.max == -kInfinity) row.max = std::numeric_limits<double>::quiet_NaN();
  return row;
}

template <class T>
void Losses(const CrossEntropyArgs& args, double* losses, int64_t begin, int64_t end) {
  const double e = args.smoothing;
  for (int64_t r = begin; r < end; ++r) {
    const int64_t target = args.targets[r];
    if (target == args.ignore_index) {
      losses[r] = 0;
      continue;
    }
    const T* x = static_cast<const T*>(args.logits) + r * args.vocab;
    const RowSums row = e == 0 ? Sums<false>(x, args.vocab) : Sums<true>(x, args.vocab);
    const double log_sum = row.max + std::log(row.exp_sum);
    losses[r] = (1 - e) * (log_sum - Widened(x[target]));
    if (e != 0) losses[r] += e * (log_sum - row.sum / args.vocab);
    args.statistics[r] = {row.max, row.exp_sum};
  }
}

// Past the caches; p is aligned to a vector.
void StreamFromF32(V x, D d, float* p) { hn::Stream(x, d, p); }
void StreamFromF32(V x, D d, BFloat16* p) { StoreRounded(x, d, p); }

// y[i] = scale * exp(x[i] - max) - shift for a row.
template <class T>
void SoftmaxRow(const T* HWY_RESTRICT x, int64_t n, float max, float scale, float shift,
                bool stream, T* HWY_RESTRICT y) {
  const D d;
  const int64_t lanes = hn::Lanes(d);
  const V maxes = hn::Set(d, max), scales = hn::Set(d, scale), shifts = hn::Set(d, shift);
  const auto f = [&](V a) HWY_ATTR {
    return hn::MulSub(ExpOfNonPositive(d, hn::Sub(a, maxes)), scales, shifts);
  };
  if (n < lanes) {
    HWY_ALIGN float values[hn::MaxLanes(d)];
    hn::Store(f(LoadLast(d, x, n, n, max)), d, values);
    for (int64_t i = 0; i < n; ++i) RoundElement(values[i], y + i);
    return;
  }
  int64_t i = 0;
  if (stream) {
    // The first vector reaches past the place where aligned ones begin.
    StoreRounded(f(LoadWidened(d, x)), d, y);
    i = lanes - reinterpret_cast<uintptr_t>(y) / sizeof(T) % lanes;
    for (; i + 2 * lanes <= n; i += 2 * lanes) {
      StreamFromF32(f(LoadWidened(d, x + i)), d, y + i);
      StreamFromF32(f(LoadWidened(d, x + i + lanes)), d, y + i + lanes);
    }
  }
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    StoreRounded(f(LoadWidened(d, x + i)), d, y + i);
    StoreRounded(f(LoadWidened(d, x + i + lanes)), d, y + i + lanes);
  }
  for (; i + lanes <= n; i += lanes) StoreRounded(f(LoadWidened(d, x + i)), d, y + i);
  // The last vector ends with the row, over what is there already.
  if (i < n) StoreRounded(f(LoadWidened(d, x + n - lanes)), d, y + n - lanes);
}

template <class T>
void Gradient(const CrossEntropyArgs& args, const GradientArgs& to, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const int64_t target = args.targets[r], n = args.vocab;
    const T* x = static_cast<const T*>(args.logits) + r * n;
    T* y = static_cast<T*>(to.gradient) + r * n;
    if (target == args.ignore_index) {
      std::fill_n(y, n, T{});
      continue;
    }
    const double scale = to.scale[to.per_row ? r : 0], e = args.smoothing;
    const RowStatistics row = args.statistics[r];
    if (std::isnan(row.max)) {
      T nan;
      RoundElement(std::numeric_limits<float>::quiet_NaN(), &nan);
      std::fill_n(y, n, nan);
      continue;
    }
    SoftmaxRow(x, n, static_cast<float>(row.max), static_cast<float>(scale / row.sum),
               static_cast<float>(scale * e / n), to.stream, y);
    // In double: of a sure prediction only a small difference is left.
    const double p = std::exp(static_cast<double>(Widened(x[target])) - row.max) / row.sum;
    RoundElement(static_cast<float>(scale * (p - e / n - (1 - e))), y + target);
  }
  if (to.stream) hwy::FlushStream();
}

void LossesF32(const CrossEntropyArgs& args, double* losses, int64_t begin, int64_t end) {
  Losses<float>(args, losses, begin, end);
}
void LossesBF16(const CrossEntropyArgs& args, double* losses, int64_t begin, int64_t end) {
  Losses<BFloat16>(args, losses, begin, end);
}
void GradientF32(const CrossEntropyArgs& args, const GradientArgs& to, int64_t begin, int64_t end) {
  Gradient<float>(args, to, begin, end);
}
void GradientBF16(const CrossEntropyArgs& args, const GradientArgs& to, int64_t begin,
                  int64_t end) {
  Gradient<BFloat16>(args, to, begin, end);
}

}  // namespace HWY_NAMESPACE
}  // namespace loss_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace loss_internal {

HWY_EXPORT(LossesF32);
HWY_EXPORT(LossesBF16);
HWY_EXPORT(GradientF32);
HWY_EXPORT(GradientBF16);

void LossesF32(const CrossEntropyArgs& args, double* losses, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(LossesF32)(args, losses, begin, end);
}
void LossesBF16(const CrossEntropyArgs& args, double* losses, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(LossesBF16)(args, losses, begin, end);
}
void GradientF32(const CrossEntropyArgs& args, const GradientArgs& to, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(GradientF32)(args, to, begin, end);
}
void GradientBF16(const CrossEntropyArgs& args, const GradientArgs& to, int64_t begin,
                  int64_t end) {
  HWY_DYNAMIC_DISPATCH(GradientBF16)(args, to, begin, end);
}

void LossesF64(const CrossEntropyArgs& args, double* losses, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const int64_t target = args.targets[r], n = args.vocab;
    if (target == args.ignore_index) {
      losses[r] = 0;
      continue;
    }
    const double* x = static_cast<const double*>(args.logits) + r * n;
    const double max = *std::max_element(x, x + n), e = args.smoothing;
    double exp_sum = 0, sum = 0;
    for (int64_t i = 0; i < n; ++i) {
      exp_sum += std::exp(x[i] - max);  // NaN for what has no softmax
      sum += x[i];
    }
    const double log_sum = max + std::log(exp_sum);
    losses[r] = (1 - e) * (log_sum - x[target]);
    if (e != 0) losses[r] += e * (log_sum - sum / n);
    args.statistics[r] = {max, exp_sum};
  }
}

void GradientF64(const CrossEntropyArgs& args, const GradientArgs& to, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const int64_t target = args.targets[r], n = args.vocab;
    const double* x = static_cast<const double*>(args.logits) + r * n;
    double* y = static_cast<double*>(to.gradient) + r * n;
    if (target == args.ignore_index) {
      std::fill_n(y, n, 0.0);
      continue;
    }
    const double scale = to.scale[to.per_row ? r : 0], e = args.smoothing;
    const RowStatistics row = args.statistics[r];
    for (int64_t i = 0; i < n; ++i) {
      const double wanted = e / n + (i == target ? 1 - e : 0);
      y[i] = scale * (std::exp(x[i] - row.max) / row.sum - wanted);
    }
  }
}

}  // namespace loss_internal
}  // namespace residual
#endif  // HWY_ONCE
