#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/softmax/softmax_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/softmax/softmax_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "ops/simd/reduce-inl.h"
#include "ops/simd/stream-inl.h"
#include "ops/simd/vec_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The largest element, -inf for n = 0. It may be NaN if there is one, but need not.
float RowMax(const float* x, int64_t n) {
  const D d;
  const V largest = Fold(
      n, static_cast<int64_t>(hn::Lanes(d)), hn::Set(d, -kInfinity),
      [&](int64_t i) HWY_ATTR { return hn::LoadU(d, x + i); },
      [&](int64_t i, int64_t count) HWY_ATTR { return LoadPart(d, x + i, count, -kInfinity); },
      [](V a, V b) HWY_ATTR { return hn::Max(a, b); });
  return hn::GetLane(hn::MaxOfLanes(d, largest));
}

// A row whose largest element is -inf: `value`, unless there is a NaN.
void WriteMasked(const float* x, int64_t n, float value, float* y) {
  if (std::any_of(x, x + n, [](float v) { return v != v; })) value = std::nanf("");
  std::fill_n(y, n, value);
}

// Rows up to this length are made in a buffer that stays in the first cache, if they are to be
// written past it; longer ones in y.
constexpr int64_t kBuffer = 4096;

// Three passes over a row that is in cache after the first: maximum, exponentials and their sum,
// scaling. While it is written the next row is fetched. On one core of a Zen 4, [8192, 768] takes
// 2.98 ms with ordinary writes, 1.86 past the caches, 1.74 if the next row is fetched in the second
// pass and 1.67 so, where it is bound by arithmetic.
void SoftmaxImpl(const SoftmaxArgs& args, int64_t begin, int64_t end) {
  const D d;
  const int64_t n = args.n, lanes = static_cast<int64_t>(hn::Lanes(d));
  const bool stream = args.stream && n <= kBuffer;
  HWY_ALIGN float buffer[kBuffer];
  for (int64_t r = begin; r < end; ++r) {
    const float* x = args.x + r * n;
    const float* next = r + 1 < end ? x + n : x;
    float* y = args.y + r * n;
    const float largest = RowMax(x, n);
    if (largest == -kInfinity) {  // nothing to attend to
      WriteMasked(x, n, 0, y);
      continue;
    }
    const V shift = hn::Set(d, largest);
    float* exponentials = stream ? buffer : y;
    const auto exp_of = [&](int64_t i) HWY_ATTR {
      return ExpOfNonPositive(d, hn::Sub(hn::LoadU(d, x + i), shift));
    };
    V s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
    int64_t i = 0;
    for (; i + 4 * lanes <= n; i += 4 * lanes) {
      // All computed before any is stored, so that they may be interleaved.
      const V e0 = exp_of(i), e1 = exp_of(i + lanes);
      const V e2 = exp_of(i + 2 * lanes), e3 = exp_of(i + 3 * lanes);
      hn::StoreU(e0, d, exponentials + i);
      hn::StoreU(e1, d, exponentials + i + lanes);
      hn::StoreU(e2, d, exponentials + i + 2 * lanes);
      hn::StoreU(e3, d, exponentials + i + 3 * lanes);
      s0 = hn::Add(s0, e0);
      s1 = hn::Add(s1, e1);
      s2 = hn::Add(s2, e2);
      s3 = hn::Add(s3, e3);
    }
    for (; i + lanes <= n; i += lanes) {
      const V e = exp_of(i);
      hn::StoreU(e, d, exponentials + i);
      s0 = hn::Add(s0, e);
    }
    if (i < n) {
      const V part = LoadPart(d, x + i, n - i, -kInfinity);
      const V e = ExpOfNonPositive(d, hn::Sub(part, shift));
      StorePart(d, e, exponentials + i, n - i);
      s1 = hn::Add(s1, e);
    }
    const V sums = hn::Add(hn::Add(s0, s1), hn::Add(s2, s3));
    const float scale = 1.0f / hn::GetLane(hn::SumOfLanes(d, sums));
    const V scales = hn::Set(d, scale);
    WriteRow(
        d, y, n, stream,
        [&](int64_t i) HWY_ATTR {
          if (stream) hwy::Prefetch(next + i);
          return hn::Mul(hn::LoadU(d, exponentials + i), scales);
        },
        [&](int64_t i, int64_t count)
            HWY_ATTR { return hn::Mul(LoadPart(d, exponentials + i, count, 0), scales); });
  }
  if (stream) hwy::FlushStream();
}

void LogSoftmaxImpl(const SoftmaxArgs& args, int64_t begin, int64_t end) {
  const D d;
  const int64_t n = args.n, lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = begin; r < end; ++r) {
    const float* x = args.x + r * n;
    float* y = args.y + r * n;
    const float largest = RowMax(x, n);
    if (largest == -kInfinity) {
      WriteMasked(x, n, -kInfinity, y);
      continue;
    }
    const V shift = hn::Set(d, largest);
    const V sums = Fold(
        n, lanes, hn::Zero(d),
        [&](int64_t i)
            HWY_ATTR { return ExpOfNonPositive(d, hn::Sub(hn::LoadU(d, x + i), shift)); },
        [&](int64_t i, int64_t count) HWY_ATTR {
          return ExpOfNonPositive(d, hn::Sub(LoadPart(d, x + i, count, -kInfinity), shift));
        },
        [](V a, V b) HWY_ATTR { return hn::Add(a, b); });
    const V log_sum = hn::Set(d, std::log(hn::GetLane(hn::SumOfLanes(d, sums))));
    WriteRow(
        d, y, n, args.stream,
        [&](int64_t i) HWY_ATTR { return hn::Sub(hn::Sub(hn::LoadU(d, x + i), shift), log_sum); },
        [&](int64_t i, int64_t count)
            HWY_ATTR { return hn::Sub(hn::Sub(LoadPart(d, x + i, count, 0), shift), log_sum); });
  }
  if (args.stream) hwy::FlushStream();
}

// sum of a * b
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

// (Fetching the next rows of two inputs ahead costs a fifth more than leaving it to the processor.)
void SoftmaxBackwardImpl(const SoftmaxBackwardArgs& args, int64_t begin, int64_t end) {
  const D d;
  const int64_t n = args.n;
  for (int64_t r = begin; r < end; ++r) {
    const float *y = args.y + r * n, *dy = args.dy + r * n;
    const V dot = hn::Set(d, RowDot(y, dy, n));
    WriteRow(
        d, args.dx + r * n, n, args.stream,
        [&](int64_t i)
            HWY_ATTR { return hn::Mul(hn::LoadU(d, y + i), hn::Sub(hn::LoadU(d, dy + i), dot)); },
        [&](int64_t i, int64_t count) HWY_ATTR {
          return hn::Mul(LoadPart(d, y + i, count, 0), hn::Sub(LoadPart(d, dy + i, count, 0), dot));
        });
  }
  if (args.stream) hwy::FlushStream();
}

void LogSoftmaxBackwardImpl(const SoftmaxBackwardArgs& args, int64_t begin, int64_t end) {
  const D d;
  const int64_t n = args.n;
  for (int64_t r = begin; r < end; ++r) {
    const float *y = args.y + r * n, *dy = args.dy + r * n;
    const V sum = hn::Set(d, RowSum(dy, n));
    WriteRow(
        d, args.dx + r * n, n, args.stream,
        [&](int64_t i) HWY_ATTR {
          return hn::NegMulAdd(VecExp(d, hn::LoadU(d, y + i)), sum, hn::LoadU(d, dy + i));
        },
        [&](int64_t i, int64_t count) HWY_ATTR {
          return hn::NegMulAdd(VecExp(d, LoadPart(d, y + i, count, 0)), sum,
                               LoadPart(d, dy + i, count, 0));
        });
  }
  if (args.stream) hwy::FlushStream();
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
