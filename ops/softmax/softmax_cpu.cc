#include <cmath>
#include <limits>

#include "ops/softmax/softmax_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/softmax/softmax_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/highway.h"
#include "ops/simd/reduce-inl.h"
#include "ops/simd/vec_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The largest element, NaN if there is one. -inf for n = 0.
float RowMax(const float* x, int64_t n) {
  const D d;
  // Max of Highway may drop a NaN; x != x survives in a second accumulator.
  const V largest = Fold(
      n, static_cast<int64_t>(hn::Lanes(d)), hn::Set(d, -kInfinity),
      [&](int64_t i) HWY_ATTR { return hn::LoadU(d, x + i); },
      [&](int64_t i, int64_t count) HWY_ATTR { return LoadPart(d, x + i, count, -kInfinity); },
      [](V a, V b) HWY_ATTR { return hn::IfThenElse(hn::Or(hn::IsNaN(a), hn::Gt(a, b)), a, b); });
  HWY_ALIGN float lanes[HWY_MAX_BYTES / sizeof(float)];
  hn::Store(largest, d, lanes);
  float result = lanes[0];
  for (size_t i = 1; i < hn::Lanes(d); ++i) {
    if (lanes[i] > result || lanes[i] != lanes[i]) result = lanes[i];
    if (result != result) break;
  }
  return result;
}

// Three passes over a row that is in cache after the first: maximum, exponentials and their sum,
// scaling.
void SoftmaxImpl(const SoftmaxArgs& args, int64_t begin, int64_t end) {
  const D d;
  const int64_t n = args.n, lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = begin; r < end; ++r) {
    const float* x = args.x + r * n;
    float* y = args.y + r * n;
    const float largest = RowMax(x, n);
    if (largest == -kInfinity) {  // nothing to attend to
      for (int64_t i = 0; i < n; ++i) y[i] = 0;
      continue;
    }
    const V shift = hn::Set(d, largest);
    const V sums = Fold(
        n, lanes, hn::Zero(d),
        [&](int64_t i) HWY_ATTR {
          const V e = VecExp(d, hn::Sub(hn::LoadU(d, x + i), shift));
          hn::StoreU(e, d, y + i);
          return e;
        },
        [&](int64_t i, int64_t count) HWY_ATTR {
          const V e = VecExp(d, hn::Sub(LoadPart(d, x + i, count, -kInfinity), shift));
          StorePart(d, e, y + i, count);
          return e;
        },
        [](V a, V b) HWY_ATTR { return hn::Add(a, b); });
    const float scale = 1.0f / hn::GetLane(hn::SumOfLanes(d, sums));
    const V scales = hn::Set(d, scale);
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) {
      hn::StoreU(hn::Mul(hn::LoadU(d, y + i), scales), d, y + i);
    }
    for (; i < n; ++i) y[i] *= scale;
  }
}

void LogSoftmaxImpl(const SoftmaxArgs& args, int64_t begin, int64_t end) {
  const D d;
  const int64_t n = args.n, lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = begin; r < end; ++r) {
    const float* x = args.x + r * n;
    float* y = args.y + r * n;
    const float largest = RowMax(x, n);
    if (largest == -kInfinity) {
      for (int64_t i = 0; i < n; ++i) y[i] = -kInfinity;
      continue;
    }
    const V shift = hn::Set(d, largest);
    const V sums = Fold(
        n, lanes, hn::Zero(d),
        [&](int64_t i) HWY_ATTR { return VecExp(d, hn::Sub(hn::LoadU(d, x + i), shift)); },
        [&](int64_t i, int64_t count)
            HWY_ATTR { return VecExp(d, hn::Sub(LoadPart(d, x + i, count, -kInfinity), shift)); },
        [](V a, V b) HWY_ATTR { return hn::Add(a, b); });
    const float log_sum = std::log(hn::GetLane(hn::SumOfLanes(d, sums)));
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) {
      const V shifted = hn::Sub(hn::LoadU(d, x + i), shift);
      hn::StoreU(hn::Sub(shifted, hn::Set(d, log_sum)), d, y + i);
    }
    for (; i < n; ++i) y[i] = (x[i] - largest) - log_sum;
  }
}

// sum of a * b, or of a alone.
float RowDot(const float* a, const float* b, int64_t n) {
  const D d;
  const V sums = Fold(
      n, static_cast<int64_t>(hn::Lanes(d)), hn::Zero(d),
      [&](int64_t i) HWY_ATTR { return hn::Mul(hn::LoadU(d, a + i), hn::LoadU(d, b + i)); },
      [&](int64_t i, int64_t count)
          HWY_ATTR { return hn::Mul(LoadPart(d, a + i, count, 0), LoadPart(d, b + i, count, 0)); },
      [](V u, V v) HWY_ATTR { return hn::Add(u, v); });
  return hn::GetLane(hn::SumOfLanes(d, sums));
}

float RowSum(const float* a, int64_t n) {
  const D d;
  const V sums = Fold(
      n, static_cast<int64_t>(hn::Lanes(d)), hn::Zero(d),
      [&](int64_t i) HWY_ATTR { return hn::LoadU(d, a + i); },
      [&](int64_t i, int64_t count) HWY_ATTR { return LoadPart(d, a + i, count, 0); },
      [](V u, V v) HWY_ATTR { return hn::Add(u, v); });
  return hn::GetLane(hn::SumOfLanes(d, sums));
}

void SoftmaxBackwardImpl(const SoftmaxBackwardArgs& args, int64_t begin, int64_t end) {
  const D d;
  const int64_t n = args.n, lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = begin; r < end; ++r) {
    const float *y = args.y + r * n, *dy = args.dy + r * n;
    float* dx = args.dx + r * n;
    const float dot = RowDot(y, dy, n);
    const V dots = hn::Set(d, dot);
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) {
      const V g = hn::Sub(hn::LoadU(d, dy + i), dots);
      hn::StoreU(hn::Mul(hn::LoadU(d, y + i), g), d, dx + i);
    }
    for (; i < n; ++i) dx[i] = y[i] * (dy[i] - dot);
  }
}

void LogSoftmaxBackwardImpl(const SoftmaxBackwardArgs& args, int64_t begin, int64_t end) {
  const D d;
  const int64_t n = args.n, lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = begin; r < end; ++r) {
    const float *y = args.y + r * n, *dy = args.dy + r * n;
    float* dx = args.dx + r * n;
    const V sums = hn::Set(d, RowSum(dy, n));
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) {
      const V p = VecExp(d, hn::LoadU(d, y + i));
      hn::StoreU(hn::NegMulAdd(p, sums, hn::LoadU(d, dy + i)), d, dx + i);
    }
    if (i < n) {
      const V p = VecExp(d, LoadPart(d, y + i, n - i, 0));
      StorePart(d, hn::NegMulAdd(p, sums, LoadPart(d, dy + i, n - i, 0)), dx + i, n - i);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {

HWY_EXPORT(SoftmaxImpl);
HWY_EXPORT(LogSoftmaxImpl);
HWY_EXPORT(SoftmaxBackwardImpl);
HWY_EXPORT(LogSoftmaxBackwardImpl);

void SoftmaxCpu(const SoftmaxArgs& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(SoftmaxImpl)(args, begin, end);
}
void LogSoftmaxCpu(const SoftmaxArgs& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(LogSoftmaxImpl)(args, begin, end);
}
void SoftmaxBackwardCpu(const SoftmaxBackwardArgs& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(SoftmaxBackwardImpl)(args, begin, end);
}
void LogSoftmaxBackwardCpu(const SoftmaxBackwardArgs& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(LogSoftmaxBackwardImpl)(args, begin, end);
}

}  // namespace residual
#endif  // HWY_ONCE
