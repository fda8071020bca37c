#include <cmath>

#include "ops/norm/norm_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/norm/norm_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "ops/simd/reduce-inl.h"
#include "ops/simd/stream-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// Sum over a row of f(vectors of x); lanes beyond the end count for nothing.
template <class F>
HWY_INLINE float SumRow(const float* x, int64_t n, F f) {
  const D d;
  const V sums = Fold(
      n, static_cast<int64_t>(hn::Lanes(d)), hn::Zero(d),
      [&](int64_t i) HWY_ATTR { return f(hn::LoadU(d, x + i)); },
      [&](int64_t i, int64_t count) HWY_ATTR {
        const auto inside = hn::FirstN(d, static_cast<size_t>(count));
        return hn::IfThenElseZero(inside, f(LoadPart(d, x + i, count, 0)));
      },
      [](V a, V b) HWY_ATTR { return hn::Add(a, b); });
  return hn::GetLane(hn::SumOfLanes(d, sums));
}

// Sums up to this length are made in a buffer that stays in the first cache, if they are to be
// written past it; longer ones in place.
constexpr int64_t kBuffer = 4096;

// x[i] + add[i] into `sum`; returns the sum of these.
float AddRow(const float* x, const float* add, int64_t n, float* HWY_RESTRICT sum) {
  const D d;
  const V sums = Fold(
      n, static_cast<int64_t>(hn::Lanes(d)), hn::Zero(d),
      [&](int64_t i) HWY_ATTR {
        const V s = hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, add + i));
        hn::StoreU(s, d, sum + i);
        return s;
      },
      [&](int64_t i, int64_t count) HWY_ATTR {
        const V s = hn::Add(LoadPart(d, x + i, count, 0), LoadPart(d, add + i, count, 0));
        StorePart(d, s, sum + i, count);
        return s;
      },
      [](V a, V b) HWY_ATTR { return hn::Add(a, b); });
  return hn::GetLane(hn::SumOfLanes(d, sums));
}

// A row is read from memory once: after the first pass it is in the first cache. While it is
// written the next one is fetched; not so the next two, which the processor does better, nor those
// of the gradient.
template <bool kWeight, bool kBias>
void NormRows(const NormArgs& args, int64_t begin, int64_t end) {
  const D d;
  const int64_t n = args.n;
  HWY_ALIGN float buffer[kBuffer];
  const bool buffered = args.stream && n <= kBuffer;
  for (int64_t r = begin; r < end; ++r) {
    const int64_t ahead = args.stream && r + 1 < end ? n : 0;
    const float* from = args.x + r * n;
    const float* added = args.add ? args.add + r * n : nullptr;
    const float* x = from;
    float* y = args.y + r * n;
    float total = 0;
    if (added) {
      float* sum = buffered ? buffer : args.sum + r * n;
      total = AddRow(from, added, n, sum);
      x = sum;
    } else if (args.mean) {
      total = SumRow(x, n, [](V v) HWY_ATTR { return v; });
    }
    float mean = 0;
    if (args.mean) {
      mean = total / static_cast<float>(n);
      args.mean[r] = mean;
    }
    const V means = hn::Set(d, mean);
    // Centred first: sum x^2 - n mean^2 would cancel.
    const float squares = SumRow(x, n, [means](V v) HWY_ATTR {
      const V c = hn::Sub(v, means);
      return hn::Mul(c, c);
    });
    const float scale = std::sqrt(squares / static_cast<float>(n) + args.eps);
    args.scale[r] = scale;
    const V inverse = hn::Set(d, 1.0f / scale);
    WriteRow(
        d, y, n, args.stream,
        [&](int64_t i) HWY_ATTR {
          if (!added) hwy::Prefetch(from + ahead + i);
          const V h = hn::Mul(hn::Sub(hn::LoadU(d, x + i), means), inverse);
          const V w = kWeight ? hn::LoadU(d, args.weight + i) : hn::Set(d, 1.0f);
          return kBias     ? hn::MulAdd(h, w, hn::LoadU(d, args.bias + i))
                 : kWeight ? hn::Mul(h, w)
                           : h;
        },
        [&](int64_t i, int64_t count) HWY_ATTR {
          const V h = hn::Mul(hn::Sub(LoadPart(d, x + i, count, 0), means), inverse);
          const V w = kWeight ? LoadPart(d, args.weight + i, count, 0) : hn::Set(d, 1.0f);
          return kBias     ? hn::MulAdd(h, w, LoadPart(d, args.bias + i, count, 0))
                 : kWeight ? hn::Mul(h, w)
                           : h;
        });
    if (added && buffered) {
      WriteRow(
          d, args.sum + r * n, n, true,
          [&](int64_t i) HWY_ATTR { return hn::LoadU(d, buffer + i); },
          [&](int64_t i, int64_t count) HWY_ATTR { return LoadPart(d, buffer + i, count, 0); });
    }
  }
  if (args.stream) hwy::FlushStream();
}

void NormImpl(const NormArgs& args, int64_t begin, int64_t end) {
  if (args.weight) {
    args.bias ? NormRows<true, true>(args, begin, end) : NormRows<true, false>(args, begin, end);
  } else {
    args.bias ? NormRows<false, true>(args, begin, end) : NormRows<false, false>(args, begin, end);
  }
}

void NormBackwardImpl(const NormBackwardArgs& args, int64_t begin, int64_t end, float* dweight,
                      float* dbias) {
  const D d;
  const int64_t n = args.n, lanes = static_cast<int64_t>(hn::Lanes(d));
  const V one = hn::Set(d, 1.0f);
  const float count = static_cast<float>(n);
  for (int64_t r = begin; r < end; ++r) {
    const float *x = args.x + r * n, *dy = args.dy + r * n;
    float* dx = args.dx ? args.dx + r * n : nullptr;
    const V means = hn::Set(d, args.mean ? args.mean[r] : 0.0f);
    const V inverse = hn::Set(d, 1.0f / args.scale[r]);
    V sum_g = hn::Zero(d), sum_gh = hn::Zero(d);
    auto accumulate = [&](V xv, V g, V w, float* dw, float* db, int64_t part) HWY_ATTR {
      const V h = hn::Mul(hn::Sub(xv, means), inverse);
      if (dw != nullptr) {
        if (part == 0) {
          hn::StoreU(hn::MulAdd(g, h, hn::LoadU(d, dw)), d, dw);
        } else {
          StorePart(d, hn::MulAdd(g, h, LoadPart(d, dw, part, 0)), dw, part);
        }
      }
      if (db != nullptr) {
        if (part == 0) {
          hn::StoreU(hn::Add(g, hn::LoadU(d, db)), d, db);
        } else {
          StorePart(d, hn::Add(g, LoadPart(d, db, part, 0)), db, part);
        }
      }
      const V gw = hn::Mul(g, w);
      sum_g = hn::Add(sum_g, gw);
      sum_gh = hn::MulAdd(gw, h, sum_gh);
    };
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) {
      accumulate(hn::LoadU(d, x + i), hn::LoadU(d, dy + i),
                 args.weight ? hn::LoadU(d, args.weight + i) : one, dweight ? dweight + i : nullptr,
                 dbias ? dbias + i : nullptr, 0);
    }
    if (i < n) {  // dy is padded with zeros, so the lanes beyond add nothing
      accumulate(LoadPart(d, x + i, n - i, 0), LoadPart(d, dy + i, n - i, 0),
                 args.weight ? LoadPart(d, args.weight + i, n - i, 0) : one,
                 dweight ? dweight + i : nullptr, dbias ? dbias + i : nullptr, n - i);
    }
    if (dx == nullptr) continue;
    const float mean_g = args.mean ? hn::GetLane(hn::SumOfLanes(d, sum_g)) / count : 0.0f;
    // d scale / dx = h / n, so a gradient of the denominator joins mean(g h) with its sign.
    float mean_gh = hn::GetLane(hn::SumOfLanes(d, sum_gh)) / count;
    if (args.dscale != nullptr) mean_gh -= args.dscale[r] * args.scale[r] / count;
    const V vg = hn::Set(d, mean_g), vgh = hn::Set(d, mean_gh);
    const float* dsum = args.dsum ? args.dsum + r * n : nullptr;
    WriteRow(
        d, dx, n, args.stream,
        [&](int64_t i) HWY_ATTR {
          const V h = hn::Mul(hn::Sub(hn::LoadU(d, x + i), means), inverse);
          const V w = args.weight ? hn::LoadU(d, args.weight + i) : one;
          const V g = hn::NegMulAdd(h, vgh, hn::MulSub(hn::LoadU(d, dy + i), w, vg));
          return dsum ? hn::MulAdd(g, inverse, hn::LoadU(d, dsum + i)) : hn::Mul(g, inverse);
        },
        [&](int64_t i, int64_t count) HWY_ATTR {
          const V h = hn::Mul(hn::Sub(LoadPart(d, x + i, count, 0), means), inverse);
          const V w = args.weight ? LoadPart(d, args.weight + i, count, 0) : one;
          const V g = hn::NegMulAdd(h, vgh, hn::MulSub(LoadPart(d, dy + i, count, 0), w, vg));
          return dsum ? hn::MulAdd(g, inverse, LoadPart(d, dsum + i, count, 0))
                      : hn::Mul(g, inverse);
        });
  }
  if (args.stream) hwy::FlushStream();
}

}  // namespace HWY_NAMESPACE
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {

HWY_EXPORT(NormImpl);
HWY_EXPORT(NormBackwardImpl);

void NormCpu(const NormArgs& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(NormImpl)(args, begin, end);
}
void NormBackwardCpu(const NormBackwardArgs& args, int64_t begin, int64_t end, float* dweight,
                     float* dbias) {
  HWY_DYNAMIC_DISPATCH(NormBackwardImpl)(args, begin, end, dweight, dbias);
}

}  // namespace residual
#endif  // HWY_ONCE
