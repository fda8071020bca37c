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

float SquaresFrom(float mean, const float* x, int64_t n) {
  const V means = hn::Set(D(), mean);
  return SumRow(x, n, [means](V v) HWY_ATTR {
    const V c = hn::Sub(v, means);
    return hn::Mul(c, c);
  });
}

// How a row of n lies in vectors: the first `parts` of them, or what there is of one, begin it, and
// lane l holds count[l] elements of the row.
struct Lanes {
  explicit Lanes(int64_t n) {
    const D d;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
    const V whole = hn::Set(d, static_cast<float>(n / lanes));
    const V more =
        hn::IfThenElseZero(hn::FirstN(d, static_cast<size_t>(n % lanes)), hn::Set(d, 1.0f));
    count = hn::Add(whole, more);
    // A lane without elements has a sum of 0, which is then divided by 1.
    inverse = hn::Div(hn::Set(d, 1.0f), hn::Max(count, hn::Set(d, 1.0f)));
  }
  V count, inverse;
};

struct Moments {
  float mean;
  float squares;  // sum of (x - mean)^2
};

// Both moments in one pass: after two, three passes with the one that writes, a large layer norm
// was bound by what it did in the first cache. Sums are of the differences to `shift`, the mean of
// the first few elements of each lane, and of their squares; what sum x^2 - n mean^2 loses by
// cancellation is lost in proportion to (shift - mean)^2 only, a few per cent of the variance.
// Where it would be more than three bits, in a row whose first elements are far from the others,
// `ok` is false. `load` gives a vector of the row, `part` one filled up with zeros.
template <class Peek, class Load, class Part>
HWY_INLINE Moments RowMoments(const Lanes& shape, int64_t n, Peek peek, Load load, Part part,
                              bool& ok) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const V shift = n >= 4 * lanes ? hn::Mul(hn::Add(hn::Add(peek(0), peek(lanes)),
                                                   hn::Add(peek(2 * lanes), peek(3 * lanes))),
                                           hn::Set(d, 0.25f))
                  : n >= lanes   ? peek(0)
                                 : part(0, n);
  V s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0, q0 = s0, q1 = s0, q2 = s0, q3 = s0;
  const auto add = [&](V x, V& s, V& q) HWY_ATTR {
    const V c = hn::Sub(x, shift);
    s = hn::Add(s, c);
    q = hn::MulAdd(c, c, q);
  };
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    add(load(i), s0, q0);
    add(load(i + lanes), s1, q1);
    add(load(i + 2 * lanes), s2, q2);
    add(load(i + 3 * lanes), s3, q3);
  }
  for (; i + lanes <= n; i += lanes) add(load(i), s0, q0);
  if (i < n) {
    const V c = hn::IfThenElseZero(hn::FirstN(d, static_cast<size_t>(n - i)),
                                   hn::Sub(part(i, n - i), shift));
    s1 = hn::Add(s1, c);
    q1 = hn::MulAdd(c, c, q1);
  }
  const V sum = hn::Add(hn::Add(s0, s1), hn::Add(s2, s3));
  const V squares = hn::Add(hn::Add(q0, q1), hn::Add(q2, q3));
  // Of the lanes, and then of all of them (Chan, Golub and LeVeque 1983).
  Moments moments;
  moments.mean =
      hn::GetLane(hn::SumOfLanes(d, hn::MulAdd(shape.count, shift, sum))) / static_cast<float>(n);
  const V from_shift = hn::Mul(sum, shape.inverse);
  const V from_mean = hn::Sub(hn::Add(shift, from_shift), hn::Set(d, moments.mean));
  const V own = hn::MulAdd(hn::Mul(from_mean, shape.count), from_mean,
                           hn::NegMulAdd(sum, from_shift, squares));
  ok = hn::AllTrue(d, hn::Le(squares, hn::Mul(own, hn::Set(d, 8.0f))));
  moments.squares = hn::GetLane(hn::SumOfLanes(d, own));
  return moments;
}

// The same of x itself, whatever it holds.
HWY_INLINE Moments MomentsOf(const Lanes& shape, const float* x, int64_t n) {
  const D d;
  const auto load = [&](int64_t i) HWY_ATTR { return hn::LoadU(d, x + i); };
  bool ok;
  Moments moments = RowMoments(
      shape, n, load, load,
      [&](int64_t i, int64_t count) HWY_ATTR { return LoadPart(d, x + i, count, 0); }, ok);
  if (HWY_UNLIKELY(!ok)) moments.squares = SquaresFrom(moments.mean, x, n);
  return moments;
}

// Sums up to this length are made in a buffer that stays in the first cache, if they are to be
// written past it; longer ones in place.
constexpr int64_t kBuffer = 4096;

// x[i] + add[i] into `sum`, and past the caches into `past` if that is not null; the moments of
// these.
HWY_INLINE Moments AddRow(const Lanes& shape, const float* x, const float* add, int64_t n,
                          float* HWY_RESTRICT sum, float* HWY_RESTRICT past) {
  const D d;
  const auto added = [&](int64_t i)
                         HWY_ATTR { return hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, add + i)); };
  bool ok;
  Moments moments = RowMoments(
      shape, n, added,
      [&](int64_t i) HWY_ATTR {
        const V s = added(i);
        hn::StoreU(s, d, sum + i);
        if (past != nullptr) hn::Stream(s, d, past + i);
        return s;
      },
      [&](int64_t i, int64_t count) HWY_ATTR {
        const V s = hn::Add(LoadPart(d, x + i, count, 0), LoadPart(d, add + i, count, 0));
        StorePart(d, s, sum + i, count);
        if (past != nullptr) StorePart(d, s, past + i, count);
        return s;
      },
      ok);
  if (HWY_UNLIKELY(!ok)) moments.squares = SquaresFrom(moments.mean, sum, n);
  return moments;
}

// A row is read from memory once: after the first pass it is in the first cache. On one core of a
// Zen 4, beside a copy that takes 1.15 ms, [8192, 768] takes 1.22 ms and with x + add 2.76; in
// three passes it was 1.53 and 3.65 (where `sum` was written after everything else). Slower than
// this: fetching the next row while one is written (8 % here, though it helped the three passes),
// the moments of the next row in the loop that writes this one (a fifth), or before it (three
// quarters).
template <bool kWeight, bool kBias>
void NormRows(const NormArgs& args, int64_t begin, int64_t end) {
  const D d;
  const int64_t n = args.n;
  const Lanes shape(n);
  HWY_ALIGN float buffer[kBuffer];
  const bool buffered = args.stream && n <= kBuffer;
  for (int64_t r = begin; r < end; ++r) {
    const float* x = args.x + r * n;
    float* y = args.y + r * n;
    float* sum = args.add != nullptr ? args.sum + r * n : nullptr;
    Moments moments;
    bool copy = false;  // of the buffer
    if (sum != nullptr) {
      const bool whole = buffered && StreamsWhole(sum, true);
      float* to = buffered ? buffer : sum;
      moments = AddRow(shape, x, args.add + r * n, n, to, whole ? sum : nullptr);
      copy = buffered && !whole;
      x = to;
    } else if (args.mean != nullptr) {
      moments = MomentsOf(shape, x, n);
    }
    if (args.mean != nullptr) {
      args.mean[r] = moments.mean;
    } else {
      moments = {0, SquaresFrom(0, x, n)};
    }
    const V means = hn::Set(d, moments.mean);
    const float scale = std::sqrt(moments.squares / static_cast<float>(n) + args.eps);
    args.scale[r] = scale;
    const V inverse = hn::Set(d, 1.0f / scale);
    WriteRow(
        d, y, n, args.stream,
        [&](int64_t i) HWY_ATTR {
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
    if (copy) {
      WriteRow(
          d, sum, n, true, [&](int64_t i) HWY_ATTR { return hn::LoadU(d, buffer + i); },
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

// Two passes; in the first, two sums each hide the latency of additions. One row at a time, as it
// lies: with two or four, whose parts of dweight and dbias are then read and written once, the
// processor no longer fetches ahead, and [8192, 768] takes 4.2 ms instead of 2.4 on a core of a Zen
// 4. Fetching ahead by instructions costs a third.
template <bool kWeight, bool kDWeight, bool kDBias>
void NormBackwardRows(const NormBackwardArgs& args, int64_t begin, int64_t end, float* dweight,
                      float* dbias) {
  const D d;
  const int64_t n = args.n, lanes = static_cast<int64_t>(hn::Lanes(d));
  const float count = static_cast<float>(n);
  const float* weight = args.weight;
  for (int64_t r = begin; r < end; ++r) {
    const float *x = args.x + r * n, *dy = args.dy + r * n;
    const V means = hn::Set(d, args.mean ? args.mean[r] : 0.0f);
    const V inverse = hn::Set(d, 1.0f / args.scale[r]);
    V sum_g = hn::Zero(d), sum_gh = sum_g, sum_g1 = sum_g, sum_gh1 = sum_g;
    // What is read is read before anything is written.
    const auto add = [&](V xv, V g, V w, V dw, V db, V& sum, V& sum_h, V& new_dw, V& new_db)
                         HWY_ATTR {
                           const V h = hn::Mul(hn::Sub(xv, means), inverse);
                           new_dw = hn::MulAdd(g, h, dw);
                           new_db = hn::Add(g, db);
                           const V gw = kWeight ? hn::Mul(g, w) : g;
                           sum = hn::Add(sum, gw);
                           sum_h = hn::MulAdd(gw, h, sum_h);
                         };
    const V zero = hn::Zero(d);
    const auto at = [&](bool there, const float* from, int64_t i)
                        HWY_ATTR { return there ? hn::LoadU(d, from + i) : zero; };
    int64_t i = 0;
    for (; i + 2 * lanes <= n; i += 2 * lanes) {
      const int64_t j = i + lanes;
      V dw0, dw1, db0, db1;
      const V x0 = hn::LoadU(d, x + i), x1 = hn::LoadU(d, x + j);
      const V g0 = hn::LoadU(d, dy + i), g1 = hn::LoadU(d, dy + j);
      const V w0 = at(kWeight, weight, i), w1 = at(kWeight, weight, j);
      const V a0 = at(kDWeight, dweight, i), a1 = at(kDWeight, dweight, j);
      const V b0 = at(kDBias, dbias, i), b1 = at(kDBias, dbias, j);
      add(x0, g0, w0, a0, b0, sum_g, sum_gh, dw0, db0);
      add(x1, g1, w1, a1, b1, sum_g1, sum_gh1, dw1, db1);
      if (kDWeight) hn::StoreU(dw0, d, dweight + i);
      if (kDWeight) hn::StoreU(dw1, d, dweight + j);
      if (kDBias) hn::StoreU(db0, d, dbias + i);
      if (kDBias) hn::StoreU(db1, d, dbias + j);
    }
    for (int64_t part; i < n; i += part) {  // dy is padded with zeros: lanes beyond add nothing
      part = n - i < lanes ? n - i : lanes;
      const auto at_part = [&](bool there, const float* from)
                               HWY_ATTR { return there ? LoadPart(d, from + i, part, 0) : zero; };
      V dw, db;
      add(LoadPart(d, x + i, part, 0), LoadPart(d, dy + i, part, 0), at_part(kWeight, weight),
          at_part(kDWeight, dweight), at_part(kDBias, dbias), sum_g, sum_gh, dw, db);
      if (kDWeight) StorePart(d, dw, dweight + i, part);
      if (kDBias) StorePart(d, db, dbias + i, part);
    }
    sum_g = hn::Add(sum_g, sum_g1);
    sum_gh = hn::Add(sum_gh, sum_gh1);
    if (args.dx == nullptr) continue;
    const float mean_g = args.mean ? hn::GetLane(hn::SumOfLanes(d, sum_g)) / count : 0.0f;
    // d scale / dx = h / n, so a gradient of the denominator joins mean(g h) with its sign.
    float mean_gh = hn::GetLane(hn::SumOfLanes(d, sum_gh)) / count;
    if (args.dscale != nullptr) mean_gh -= args.dscale[r] * args.scale[r] / count;
    const V vg = hn::Set(d, mean_g), vgh = hn::Set(d, mean_gh);
    const float* dsum = args.dsum ? args.dsum + r * n : nullptr;
    WriteRow(
        d, args.dx + r * n, n, args.stream,
        [&](int64_t i) HWY_ATTR {
          const V h = hn::Mul(hn::Sub(hn::LoadU(d, x + i), means), inverse);
          const V w = kWeight ? hn::LoadU(d, weight + i) : hn::Set(d, 1.0f);
          const V g = hn::NegMulAdd(h, vgh, hn::MulSub(hn::LoadU(d, dy + i), w, vg));
          return dsum ? hn::MulAdd(g, inverse, hn::LoadU(d, dsum + i)) : hn::Mul(g, inverse);
        },
        [&](int64_t i, int64_t count) HWY_ATTR {
          const V h = hn::Mul(hn::Sub(LoadPart(d, x + i, count, 0), means), inverse);
          const V w = kWeight ? LoadPart(d, weight + i, count, 0) : hn::Set(d, 1.0f);
          const V g = hn::NegMulAdd(h, vgh, hn::MulSub(LoadPart(d, dy + i, count, 0), w, vg));
          return dsum ? hn::MulAdd(g, inverse, LoadPart(d, dsum + i, count, 0))
                      : hn::Mul(g, inverse);
        });
  }
  if (args.stream) hwy::FlushStream();
}

void NormBackwardImpl(const NormBackwardArgs& args, int64_t begin, int64_t end, float* dweight,
                      float* dbias) {
  const auto rows = args.weight == nullptr ? NormBackwardRows<false, false, false>
                    : dweight == nullptr ? (dbias == nullptr ? NormBackwardRows<true, false, false>
                                                             : NormBackwardRows<true, false, true>)
                                         : (dbias == nullptr ? NormBackwardRows<true, true, false>
                                                             : NormBackwardRows<true, true, true>);
  rows(args, begin, end, dweight, dbias);
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
