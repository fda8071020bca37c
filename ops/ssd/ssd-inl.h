// What both passes of SSD are made of. Included once per Highway target.
//
// In the names below q is the number of positions of a chunk, and t and s count them: t reads what
// s wrote, s <= t. Matrices are row-major. The state of a head lies transposed, [state, head_dim],
// while chunks go by: so it is the lower part of a factor whose upper part is delta x.

#if defined(RESIDUAL_OPS_SSD_SSD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESIDUAL_OPS_SSD_SSD_INL_H_
#undef RESIDUAL_OPS_SSD_SSD_INL_H_
#else
#define RESIDUAL_OPS_SSD_SSD_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <utility>

#include "hwy/aligned_allocator.h"
#include "hwy/highway.h"
#include "ops/simd/convert-inl.h"
#include "ops/simd/vec_math-inl.h"
#include "ops/ssd/ssd_kernels.h"
#include "tensor/core/dtype.h"
#include "tensor/core/tensor.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace ssd_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using residual::HWY_NAMESPACE::LoadWidened;
using residual::HWY_NAMESPACE::RoundElement;
using residual::HWY_NAMESPACE::StoreRounded;
using residual::HWY_NAMESPACE::VecExp;
using residual::HWY_NAMESPACE::Widened;

// A decay of e^-20000 is none in any dtype; sums of smaller numbers could be infinite.
constexpr double kMostDecay = 20000;

template <class S>
int64_t Lanes() {
  return static_cast<int64_t>(hn::Lanes(hn::ScalableTag<S>()));
}

// f(d, i) for i in [0, n): whole vectors from i on, and one lane at a time where none fits.
template <class S, class F>
HWY_INLINE void ForLanes(int64_t n, F f) {
  const hn::ScalableTag<S> d;
  const hn::CappedTag<S, 1> one;
  int64_t i = 0;
  for (; i + Lanes<S>() <= n; i += Lanes<S>()) f(d, i);
  for (; i < n; ++i) f(one, i);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V ExpOf(D d, V x) {
  if constexpr (std::is_same_v<hn::TFromD<D>, float>) {
    return VecExp(d, x);
  } else {
    HWY_ALIGN double lanes[HWY_MAX_BYTES / sizeof(double)];
    hn::Store(x, d, lanes);
    for (size_t i = 0; i < hn::Lanes(d); ++i) lanes[i] = std::exp(lanes[i]);
    return hn::Load(d, lanes);
  }
}

template <class D, class T>
HWY_INLINE void Write(hn::Vec<D> v, D d, T* to) {
  if constexpr (std::is_same_v<T, hn::TFromD<D>>) {
    hn::StoreU(v, d, to);
  } else {
    StoreRounded(v, d, to);
  }
}

// to[r] = factor[r] from[r]
template <class S, class T>
void ScaleRows(const T* from, int64_t from_stride, const S* factors, S* to, int64_t to_stride,
               int64_t rows, int64_t columns) {
  for (int64_t r = 0; r < rows; ++r) {
    ForLanes<S>(columns, [&](auto d, int64_t i) HWY_ATTR {
      const auto x = LoadWidened(d, from + r * from_stride + i);
      hn::StoreU(hn::Mul(hn::Set(d, factors[r]), x), d, to + r * to_stride + i);
    });
  }
}

// state = decay state + added
template <class S>
void AddState(S decay, const S* added, S* state, int64_t n) {
  ForLanes<S>(n, [&](auto d, int64_t i) HWY_ATTR {
    const auto h = hn::LoadU(d, state + i);
    hn::StoreU(hn::MulAdd(hn::Set(d, decay), h, hn::LoadU(d, added + i)), d, state + i);
  });
}

// The sum of factor a b over a row, to which factor b is added.
template <class S>
S AddRow(S factor, const S* a, const S* b, S* to, int64_t n) {
  const hn::ScalableTag<S> d;
  auto sum = hn::Zero(d);
  int64_t i = 0;
  for (; i + Lanes<S>() <= n; i += Lanes<S>()) {
    const auto v = hn::Mul(hn::Set(d, factor), hn::LoadU(d, b + i));
    sum = hn::MulAdd(hn::LoadU(d, a + i), v, sum);
    hn::StoreU(hn::Add(hn::LoadU(d, to + i), v), d, to + i);
  }
  S total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < n; ++i) {
    total += a[i] * (factor * b[i]);
    to[i] += factor * b[i];
  }
  return total;
}

template <class S>
S Dot(const S* a, const S* b, int64_t n) {
  const hn::ScalableTag<S> d;
  auto even = hn::Zero(d), odd = even;
  int64_t i = 0;
  for (; i + 2 * Lanes<S>() <= n; i += 2 * Lanes<S>()) {
    const int64_t next = i + Lanes<S>();
    even = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), even);
    odd = hn::MulAdd(hn::LoadU(d, a + next), hn::LoadU(d, b + next), odd);
  }
  S total = hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd)));
  for (; i < n; ++i) total += a[i] * b[i];
  return total;
}

// [columns, rows] to [rows, columns]; null: zeros.
template <class S>
void Transpose(const S* from, int64_t rows, int64_t columns, S* to) {
  if (from == nullptr) {
    std::fill_n(to, rows * columns, S{0});
    return;
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) to[r * columns + c] = from[c * rows + r];
  }
}

// What is forgotten within a chunk. Where a sequence begins in it, nothing is kept from before.
template <class S>
struct Decay {
  S *high, *low;  // the sum of delta A up to a position, rounded, and what was rounded off
  S* first;       // the first position of the same sequence
  S* from_start;  // what is left at t of the state before the chunk
  S* to_end;      // and at the end of what s wrote
  S whole;        // of the state before the chunk at the end
};

// Where a head of a row of the batch lies.
template <class S, class T>
struct Head {
  Head(const SsdArgs<S>& args, int64_t row, int64_t head)
      : group(row * args.groups + head / (args.heads / args.groups)),
        number(row * args.heads + head),
        x_stride(args.heads * args.head_dim),
        x(row * args.length * x_stride + head * args.head_dim),
        state(number * args.head_dim * args.state) {}

  int64_t group, number;  // of all rows
  int64_t x_stride;       // from one position to the next
  int64_t x, state;       // where its first x, y and its state lie
};

template <class S>
HWY_INLINE void Measure(const SsdArgs<S>& args, int64_t row, int64_t head, int64_t begin, int64_t q,
                        Decay<S>& k) {
  const S* delta = args.delta + (row * args.heads + head) * args.length + begin;
  const unsigned char* restart =
      args.restart != nullptr ? args.restart + row * args.length + begin : nullptr;
  double sum = 0;
  int64_t first = 0, first_restart = q;
  for (int64_t t = 0; t < q; ++t) {
    if (restart != nullptr && restart[t]) {
      first = t;
      first_restart = std::min(first_restart, t);
    }
    const double step = static_cast<double>(delta[t]) * static_cast<double>(args.A[head]);
    sum += step < -kMostDecay ? -kMostDecay : step;
    k.high[t] = static_cast<S>(sum);
    k.low[t] = static_cast<S>(sum - static_cast<double>(k.high[t]));
    k.first[t] = static_cast<S>(first);
  }
  const hn::ScalableTag<S> d;
  for (S* x : {k.high, k.low, k.first}) std::fill_n(x + q, Lanes<S>(), S{0});
  const auto end_high = hn::Set(d, k.high[q - 1]), end_low = hn::Set(d, k.low[q - 1]);
  for (int64_t t = 0; t < q; t += Lanes<S>()) {
    const auto high = hn::Load(d, k.high + t), low = hn::Load(d, k.low + t);
    const auto e = ExpOf(d, high);
    hn::Store(hn::MulAdd(e, low, e), d, k.from_start + t);
    const auto rest = hn::Add(hn::Sub(end_high, high), hn::Sub(end_low, low));
    hn::Store(ExpOf(d, rest), d, k.to_end + t);
  }
  std::fill(k.from_start + first_restart, k.from_start + q, S{0});
  std::fill_n(k.to_end, first, S{0});
  k.whole = k.from_start[q - 1];
}

// to[t, s] = scores[t, s] L[t, s], rows `stride` apart. Writes past the end of a row by less than a
// vector.
template <class S>
void Mask(const S* scores, const Decay<S>& k, int64_t q, S* to, int64_t stride) {
  const hn::ScalableTag<S> d;
  for (int64_t t = 0; t < q; ++t, scores += q, to += stride) {
    const auto high = hn::Set(d, k.high[t]), low = hn::Set(d, k.low[t]);
    const auto first = hn::Set(d, k.first[t]), last = hn::Set(d, static_cast<S>(t));
    int64_t s = static_cast<int64_t>(k.first[t]) / Lanes<S>() * Lanes<S>();
    std::fill_n(to, s, S{0});
    for (; s <= t; s += Lanes<S>()) {
      const auto sum =
          hn::Add(hn::Sub(high, hn::Load(d, k.high + s)), hn::Sub(low, hn::Load(d, k.low + s)));
      const auto at = hn::Iota(d, static_cast<S>(s));
      const auto kept = hn::And(hn::Le(at, last), hn::Ge(at, first));
      const auto masked = hn::Mul(hn::LoadU(d, scores + s), ExpOf(d, sum));
      hn::StoreU(hn::IfThenElseZero(kept, masked), d, to + s);
    }
    if (s < q) std::fill(to + s, to + q, S{0});
  }
}

// The same of transposed scores: to[s, t] = scores[s, t] L[t, s]; leaves L[t, s] in L[s, t], of
// rows L_stride apart, zero past the end.
template <class S>
void MaskTransposed(const S* scores, const Decay<S>& k, int64_t q, S* to, int64_t stride, S* L,
                    int64_t L_stride) {
  const hn::ScalableTag<S> d;
  const auto end = hn::Set(d, static_cast<S>(q));
  for (int64_t s = 0; s < q; ++s, scores += q, to += stride, L += L_stride) {
    const auto high = hn::Set(d, k.high[s]), low = hn::Set(d, k.low[s]);
    const auto here = hn::Set(d, static_cast<S>(s));
    int64_t t = s / Lanes<S>() * Lanes<S>();
    std::fill_n(to, t, S{0});
    for (; t < q; t += Lanes<S>()) {
      const auto sum =
          hn::Add(hn::Sub(hn::Load(d, k.high + t), high), hn::Sub(hn::Load(d, k.low + t), low));
      const auto at = hn::Iota(d, static_cast<S>(t));
      const auto kept = hn::And(hn::And(hn::Ge(at, here), hn::Lt(at, end)),
                                hn::Le(hn::Load(d, k.first + t), here));
      const auto decay = hn::IfThenElseZero(kept, ExpOf(d, sum));
      hn::Store(decay, d, L + t);
      const auto masked = hn::Mul(hn::LoadU(d, scores + t), decay);
      hn::StoreU(hn::IfThenElseZero(kept, masked), d, to + t);
    }
  }
}

// Aligned parts of one allocation.
template <class S>
class Parts {
 public:
  explicit Parts(int64_t elements) : memory_(hwy::AllocateAligned<S>(elements)) {
    std::fill_n(memory_.get(), elements, S{0});
    next_ = memory_.get();
  }
  static int64_t Size(int64_t n) { return (n + kPadding - 1) / kPadding * kPadding + kPadding; }
  S* Take(int64_t n) { return std::exchange(next_, next_ + Size(n)); }
  Decay<S> TakeDecay() {
    S *high = Take(kChunk), *low = Take(kChunk), *first = Take(kChunk);
    S *from_start = Take(kChunk), *to_end = Take(kChunk);
    return {high, low, first, from_start, to_end, S{0}};
  }
  static int64_t DecaySize() { return 5 * Size(kChunk); }

 private:
  hwy::AlignedFreeUniquePtr<S[]> memory_;
  S* next_;
};
}  // namespace HWY_NAMESPACE
}  // namespace ssd_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#endif  // RESIDUAL_OPS_SSD_SSD_INL_H_
