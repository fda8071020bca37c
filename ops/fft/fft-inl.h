// The stages of a Fourier transform (fft_plan.h) on the current Highway target.
//
// A lane is a signal: as many signals as a vector has lanes are transformed together. An element is
// two vectors, one after the other: the real parts and the imaginary parts.

#if defined(RESIDUAL_OPS_FFT_FFT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESIDUAL_OPS_FFT_FFT_INL_H_
#undef RESIDUAL_OPS_FFT_FFT_INL_H_
#else
#define RESIDUAL_OPS_FFT_FFT_INL_H_
#endif

#include <cstdint>
#include <type_traits>

#include "hwy/highway.h"
#include "ops/fft/fft_plan.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace fft_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
HWY_INLINE int64_t LanesOf(D d) {
  return static_cast<int64_t>(hn::Lanes(d));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE void Dft2(D, V& a_re, V& a_im, V& b_re, V& b_im) {
  const V re = a_re, im = a_im;
  a_re = hn::Add(re, b_re);
  a_im = hn::Add(im, b_im);
  b_re = hn::Sub(re, b_re);
  b_im = hn::Sub(im, b_im);
}

// In order: a, b, c, d to frequencies 0, 1, 2, 3.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void Dft4(D tag, V& a_re, V& a_im, V& b_re, V& b_im, V& c_re, V& c_im, V& d_re,
                     V& d_im) {
  Dft2(tag, a_re, a_im, c_re, c_im);
  Dft2(tag, b_re, b_im, d_re, d_im);
  Dft2(tag, a_re, a_im, b_re, b_im);                                   // frequencies 0 and 2
  const V one_re = hn::Add(c_re, d_im), one_im = hn::Sub(c_im, d_re);  // c - i d
  const V three_re = hn::Sub(c_re, d_im), three_im = hn::Add(c_im, d_re);
  c_re = b_re;
  c_im = b_im;
  b_re = one_re;
  b_im = one_im;
  d_re = three_re;
  d_im = three_im;
}

// The transform of r elements in registers. The inverse, unscaled: with the parts exchanged, for
// i conj(z) is z with its parts exchanged.
template <int r, class D, class V = hn::Vec<D>>
HWY_INLINE void Dft(D d, V* HWY_RESTRICT re, V* HWY_RESTRICT im) {
  using T = hn::TFromD<D>;
  static_assert(r == 2 || r == 3 || r == 4 || r == 5 || r == 8, "no such stage");
  if constexpr (r == 2) {
    Dft2(d, re[0], im[0], re[1], im[1]);
  } else if constexpr (r == 3) {
    const V half = hn::Set(d, static_cast<T>(0.5));
    const V root = hn::Set(d, static_cast<T>(0.86602540378443864676));  // sin(2 pi / 3)
    const V sum_re = hn::Add(re[1], re[2]), sum_im = hn::Add(im[1], im[2]);
    const V diff_re = hn::Mul(root, hn::Sub(re[1], re[2]));
    const V diff_im = hn::Mul(root, hn::Sub(im[1], im[2]));
    const V mid_re = hn::NegMulAdd(half, sum_re, re[0]),
            mid_im = hn::NegMulAdd(half, sum_im, im[0]);
    re[0] = hn::Add(re[0], sum_re);
    im[0] = hn::Add(im[0], sum_im);
    re[1] = hn::Add(mid_re, diff_im);
    im[1] = hn::Sub(mid_im, diff_re);
    re[2] = hn::Sub(mid_re, diff_im);
    im[2] = hn::Add(mid_im, diff_re);
  } else if constexpr (r == 4) {
    Dft4(d, re[0], im[0], re[1], im[1], re[2], im[2], re[3], im[3]);
  } else if constexpr (r == 5) {
    const V cos1 = hn::Set(d, static_cast<T>(0.30901699437494742410));  // of 2 pi / 5
    const V cos2 = hn::Set(d, static_cast<T>(-0.80901699437494742410));
    const V sin1 = hn::Set(d, static_cast<T>(0.95105651629515357212));
    const V sin2 = hn::Set(d, static_cast<T>(0.58778525229247312917));
    const V s1_re = hn::Add(re[1], re[4]), s1_im = hn::Add(im[1], im[4]);
    const V s2_re = hn::Add(re[2], re[3]), s2_im = hn::Add(im[2], im[3]);
    const V d1_re = hn::Sub(re[1], re[4]), d1_im = hn::Sub(im[1], im[4]);
    const V d2_re = hn::Sub(re[2], re[3]), d2_im = hn::Sub(im[2], im[3]);
    const V m1_re = hn::MulAdd(cos2, s2_re, hn::MulAdd(cos1, s1_re, re[0]));
    const V m1_im = hn::MulAdd(cos2, s2_im, hn::MulAdd(cos1, s1_im, im[0]));
    const V m2_re = hn::MulAdd(cos1, s2_re, hn::MulAdd(cos2, s1_re, re[0]));
    const V m2_im = hn::MulAdd(cos1, s2_im, hn::MulAdd(cos2, s1_im, im[0]));
    const V n1_re = hn::MulAdd(sin2, d2_re, hn::Mul(sin1, d1_re));
    const V n1_im = hn::MulAdd(sin2, d2_im, hn::Mul(sin1, d1_im));
    const V n2_re = hn::NegMulAdd(sin1, d2_re, hn::Mul(sin2, d1_re));
    const V n2_im = hn::NegMulAdd(sin1, d2_im, hn::Mul(sin2, d1_im));
    re[0] = hn::Add(re[0], hn::Add(s1_re, s2_re));
    im[0] = hn::Add(im[0], hn::Add(s1_im, s2_im));
    re[1] = hn::Add(m1_re, n1_im);
    im[1] = hn::Sub(m1_im, n1_re);
    re[2] = hn::Add(m2_re, n2_im);
    im[2] = hn::Sub(m2_im, n2_re);
    re[3] = hn::Sub(m2_re, n2_im);
    im[3] = hn::Add(m2_im, n2_re);
    re[4] = hn::Sub(m1_re, n1_im);
    im[4] = hn::Add(m1_im, n1_re);
  } else {
    Dft4(d, re[0], im[0], re[2], im[2], re[4], im[4], re[6], im[6]);
    Dft4(d, re[1], im[1], re[3], im[3], re[5], im[5], re[7], im[7]);
    // Now frequencies 0, 1, 2, 3 of the even elements are in 0, 2, 4, 6, of the odd in 1, 3, 5, 7.
    const V root = hn::Set(d, static_cast<T>(0.70710678118654752440));
    const V w1_re = hn::Add(re[3], im[3]), w1_im = hn::Sub(im[3], re[3]);  // (1 - i) z
    const V w3_re = hn::Sub(im[7], re[7]), w3_im = hn::Add(im[7], re[7]);  // (-1 - i) z: -w3_im
    const V e0_re = re[0], e0_im = im[0], e1_re = re[2], e1_im = im[2];
    const V e2_re = re[4], e2_im = im[4], e3_re = re[6], e3_im = im[6];
    const V o0_re = re[1], o0_im = im[1], o2_re = re[5], o2_im = im[5];
    re[0] = hn::Add(e0_re, o0_re);
    im[0] = hn::Add(e0_im, o0_im);
    re[4] = hn::Sub(e0_re, o0_re);
    im[4] = hn::Sub(e0_im, o0_im);
    re[1] = hn::MulAdd(root, w1_re, e1_re);
    im[1] = hn::MulAdd(root, w1_im, e1_im);
    re[5] = hn::NegMulAdd(root, w1_re, e1_re);
    im[5] = hn::NegMulAdd(root, w1_im, e1_im);
    re[2] = hn::Add(e2_re, o2_im);  // -i z
    im[2] = hn::Sub(e2_im, o2_re);
    re[6] = hn::Sub(e2_re, o2_im);
    im[6] = hn::Add(e2_im, o2_re);
    re[3] = hn::MulAdd(root, w3_re, e3_re);
    im[3] = hn::NegMulAdd(root, w3_im, e3_im);
    re[7] = hn::NegMulAdd(root, w3_re, e3_re);
    im[7] = hn::MulAdd(root, w3_im, e3_im);
  }
}

// z w, and z conj(w) if the parts of z are exchanged before and after. w: two numbers.
template <class D, class T, class V = hn::Vec<D>>
HWY_INLINE void Turn(D d, const T* w, V& re, V& im) {
  const V w_re = hn::Set(d, w[0]), w_im = hn::Set(d, w[1]);
  const V turned = hn::NegMulAdd(im, w_im, hn::Mul(re, w_re));
  im = hn::MulAdd(re, w_im, hn::Mul(im, w_re));
  re = turned;
}

// An element of a stage: load(k, re, im) gives input k, store(p, re, im) takes output p. w: the
// twiddles for 0 < p < r; null: ones.
template <int r, class D, class T, class Load, class Store>
HWY_INLINE void ForwardElement(D d, const T* w, Load load, Store store) {
  hn::Vec<D> re[r], im[r];
#pragma GCC unroll 8
  for (int k = 0; k < r; ++k) load(k, re[k], im[k]);
  Dft<r>(d, re, im);
  store(0, re[0], im[0]);
#pragma GCC unroll 8
  for (int p = 1; p < r; ++p) {
    if (w != nullptr) Turn(d, w + 2 * (p - 1), re[p], im[p]);
    store(p, re[p], im[p]);
  }
}

template <int r, class D, class T, class Load, class Store>
HWY_INLINE void InverseElement(D d, const T* w, Load load, Store store) {
  hn::Vec<D> re[r], im[r];
  load(0, re[0], im[0]);
#pragma GCC unroll 8
  for (int p = 1; p < r; ++p) {
    load(p, re[p], im[p]);
    if (w != nullptr) Turn(d, w + 2 * (p - 1), im[p], re[p]);
  }
  Dft<r>(d, im, re);
#pragma GCC unroll 8
  for (int k = 0; k < r; ++k) store(k, re[k], im[k]);
}

// Elements in memory, `step` numbers apart.
template <class D, class T>
struct Elements {
  D d;
  T* HWY_RESTRICT first;
  int64_t step;
  HWY_INLINE void Load(int k, hn::Vec<D>& re, hn::Vec<D>& im) const {
    re = hn::Load(d, first + k * step);
    im = hn::Load(d, first + k * step + LanesOf(d));
  }
  HWY_INLINE void Store(int k, hn::Vec<D> re, hn::Vec<D> im) const {
    hn::Store(re, d, first + k * step);
    hn::Store(im, d, first + k * step + LanesOf(d));
  }
};

// One stage of `blocks` blocks, in place.
template <int r, bool kInverse, class D, class T>
HWY_NOINLINE void RunStage(D d, const Stage<T>& stage, T* x, int64_t blocks) {
  const int64_t element = 2 * LanesOf(d), step = stage.sub * element;
  for (int64_t b = 0; b < blocks; ++b) {
    T* HWY_RESTRICT at = x + b * r * step;
    const T* HWY_RESTRICT w = stage.twiddles.data();
    for (int64_t j = 0; j < stage.sub; ++j, at += element, w += 2 * (r - 1)) {
      const Elements<D, T> elements{d, at, step};
      const auto load = [&](int k, auto& re, auto& im) { elements.Load(k, re, im); };
      const auto store = [&](int k, auto re, auto im) { elements.Store(k, re, im); };
      if constexpr (kInverse) {
        InverseElement<r>(d, w, load, store);
      } else {
        ForwardElement<r>(d, w, load, store);
      }
    }
  }
}
// The same for the last one, of which the twiddles are ones.
template <int r, bool kInverse, class D, class T>
HWY_NOINLINE void RunLastStage(D d, T* x, int64_t blocks) {
  const int64_t element = 2 * LanesOf(d);
  constexpr const T* kOnes = nullptr;
  for (int64_t b = 0; b < blocks; ++b, x += r * element) {
    const Elements<D, T> elements{d, x, element};
    const auto load = [&](int k, auto& re, auto& im) { elements.Load(k, re, im); };
    const auto store = [&](int k, auto re, auto im) { elements.Store(k, re, im); };
    if constexpr (kInverse) {
      InverseElement<r>(d, kOnes, load, store);
    } else {
      ForwardElement<r>(d, kOnes, load, store);
    }
  }
}

// f(std::integral_constant<int, radix>).
template <class F>
HWY_INLINE void WithRadix(int radix, F f) {
  switch (radix) {
    case 2:
      return f(std::integral_constant<int, 2>());
    case 3:
      return f(std::integral_constant<int, 3>());
    case 4:
      return f(std::integral_constant<int, 4>());
    case 5:
      return f(std::integral_constant<int, 5>());
    default:
      return f(std::integral_constant<int, 8>());
  }
}

template <bool kInverse, class D, class T>
void RunAnyStage(D d, const Stage<T>& stage, T* x, int64_t blocks) {
  WithRadix(stage.radix, [&](auto r) {
    if (stage.sub > 1) {
      RunStage<r(), kInverse>(d, stage, x, blocks);
    } else {
      RunLastStage<r(), kInverse>(d, x, blocks);
    }
  });
}

// Whether blocks of n elements, of so many buffers, are best taken through all stages one by one:
// all of them are in the first-level cache.
template <class D>
bool StaysNear(D d, int64_t n, int64_t buffers) {
  return n * buffers * 2 * LanesOf(d) * static_cast<int64_t>(sizeof(hn::TFromD<D>)) <= 1 << 15;
}

// The stages from `first` on of the one block x, depth first: what one stage leaves in a cache, the
// next one finds there.
template <class D, class T>
void Forward(D d, const Plan<T>& plan, size_t first, T* x) {
  if (first == plan.stages.size()) return;
  const int64_t n = plan.stages[first].radix * plan.stages[first].sub;
  if (StaysNear(d, n, 1)) {
    for (size_t s = first; s < plan.stages.size(); ++s) {
      RunAnyStage<false>(d, plan.stages[s], x, n / (plan.stages[s].radix * plan.stages[s].sub));
    }
    return;
  }
  RunAnyStage<false>(d, plan.stages[first], x, 1);
  for (int p = 0; p < plan.stages[first].radix; ++p) {
    Forward(d, plan, first + 1, x + p * plan.stages[first].sub * 2 * LanesOf(d));
  }
}

// Back to before stage `first`, unscaled.
template <class D, class T>
void Inverse(D d, const Plan<T>& plan, size_t first, T* x) {
  if (first == plan.stages.size()) return;
  const int64_t n = plan.stages[first].radix * plan.stages[first].sub;
  if (StaysNear(d, n, 1)) {
    for (size_t s = plan.stages.size(); s-- > first;) {
      RunAnyStage<true>(d, plan.stages[s], x, n / (plan.stages[s].radix * plan.stages[s].sub));
    }
    return;
  }
  for (int p = 0; p < plan.stages[first].radix; ++p) {
    Inverse(d, plan, first + 1, x + p * plan.stages[first].sub * 2 * LanesOf(d));
  }
  RunAnyStage<true>(d, plan.stages[first], x, 1);
}

}  // namespace HWY_NAMESPACE
}  // namespace fft_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#endif  // RESIDUAL_OPS_FFT_FFT_INL_H_
