#include "ops/ssm_kernel/diagonal_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/ssm_kernel/diagonal_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace ssm_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Vectors of double, at most kPad of them; numbers of a wider or equal type beside them.
using Doubles = hn::CappedTag<double, kPad>;
using V64 = hn::Vec<Doubles>;

HWY_INLINE void StoreAs(Doubles d, V64 v, double* to) { hn::StoreU(v, d, to); }
HWY_INLINE void StoreAs(Doubles d, V64 v, float* to) {
  const hn::Rebind<float, Doubles> narrow;
  hn::StoreU(hn::DemoteTo(narrow, v), narrow, to);
}
HWY_INLINE V64 LoadAs(Doubles d, const double* from) { return hn::LoadU(d, from); }
HWY_INLINE V64 LoadAs(Doubles d, const float* from) {
  const hn::Rebind<float, Doubles> narrow;
  return hn::PromoteTo(d, hn::LoadU(narrow, from));
}

// Two vectors of modes at a time: each waits for its own last product only.
template <class T>
void PowersOf(const Powers<T>& p) {
  const Doubles d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t n = 0; n < p.n; n += lanes) {
    const V64 z_re = hn::LoadU(d, p.z_re + n), z_im = hn::LoadU(d, p.z_im + n);
    V64 re = hn::LoadU(d, p.start_re + n), im = hn::LoadU(d, p.start_im + n);
    for (int64_t t = 0; t < p.count; ++t) {
      StoreAs(d, re, p.re + t * p.stride + n);
      StoreAs(d, im, p.im + t * p.stride + n);
      const V64 next = hn::NegMulAdd(im, z_im, hn::Mul(re, z_re));
      im = hn::MulAdd(re, z_im, hn::Mul(im, z_re));
      re = next;
    }
  }
}

template <int kRows, int kVectors, class D, class T>
HWY_INLINE void Tile(D d, const SmallProduct<T>& p, int64_t row, int64_t column) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  hn::Vec<D> sums[kRows][kVectors];
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < kVectors; ++v) sums[i][v] = hn::Zero(d);
  }
  const T* HWY_RESTRICT a = p.a + row * p.inner;
  const T* HWY_RESTRICT b = p.b + column;
  for (int64_t k = 0; k < p.inner; ++k, b += p.columns) {
    hn::Vec<D> right[kVectors];
    for (int v = 0; v < kVectors; ++v) right[v] = hn::LoadU(d, b + v * lanes);
    for (int i = 0; i < kRows; ++i) {
      const auto left = hn::Set(d, a[i * p.inner + k]);
      for (int v = 0; v < kVectors; ++v) sums[i][v] = hn::MulAdd(left, right[v], sums[i][v]);
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < kVectors; ++v) {
      hn::StoreU(sums[i][v], d, p.to + (row + i) * p.columns + column + v * lanes);
    }
  }
}

template <int kVectors, class D, class T>
HWY_INLINE void Columns(D d, const SmallProduct<T>& p, int64_t column) {
  int64_t row = 0;
  for (; row + 4 <= p.rows; row += 4) Tile<4, kVectors>(d, p, row, column);
  for (; row < p.rows; ++row) Tile<1, kVectors>(d, p, row, column);
}

template <class T>
void Product(const SmallProduct<T>& p) {
  const hn::CappedTag<T, kPad> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t column = 0;
  for (; column + 2 * lanes <= p.columns; column += 2 * lanes) Columns<2>(d, p, column);
  for (; column < p.columns; column += lanes) Columns<1>(d, p, column);
}

template <class T>
void Sums(const ModeSums<T>& s) {
  const Doubles d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t n = 0; n < s.n; n += lanes) {
    V64 s0_re = hn::Zero(d), s0_im = hn::Zero(d), s1_re = hn::Zero(d), s1_im = hn::Zero(d);
    for (int64_t a = 0; a < s.rows; ++a) {
      const V64 first = hn::Set(d, static_cast<double>(a * s.width));
      const double* e = s.e + a * 2 * s.n + n;
      const T* t = s.t + a * 4 * s.n + n;
      const V64 e_re = hn::LoadU(d, e), e_im = hn::LoadU(d, e + s.n);
      const V64 t_re = LoadAs(d, t), t_im = LoadAs(d, t + s.n);
      const V64 u_re = hn::MulAdd(first, t_re, LoadAs(d, t + 2 * s.n));
      const V64 u_im = hn::MulAdd(first, t_im, LoadAs(d, t + 3 * s.n));
      s0_re = hn::NegMulAdd(e_im, t_im, hn::MulAdd(e_re, t_re, s0_re));
      s0_im = hn::MulAdd(e_im, t_re, hn::MulAdd(e_re, t_im, s0_im));
      s1_re = hn::NegMulAdd(e_im, u_im, hn::MulAdd(e_re, u_re, s1_re));
      s1_im = hn::MulAdd(e_im, u_re, hn::MulAdd(e_re, u_im, s1_im));
    }
    hn::StoreU(s0_re, d, s.s0_re + n);
    hn::StoreU(s0_im, d, s.s0_im + n);
    hn::StoreU(s1_re, d, s.s1_re + n);
    hn::StoreU(s1_im, d, s.s1_im + n);
  }
}

void PowersF32(const Powers<float>& p) { PowersOf(p); }
void PowersF64(const Powers<double>& p) { PowersOf(p); }
void ProductF32(const SmallProduct<float>& p) { Product(p); }
void ProductF64(const SmallProduct<double>& p) { Product(p); }
void SumsF32(const ModeSums<float>& s) { Sums(s); }
void SumsF64(const ModeSums<double>& s) { Sums(s); }

}  // namespace HWY_NAMESPACE
}  // namespace ssm_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace ssm_internal {

HWY_EXPORT(PowersF32);
HWY_EXPORT(PowersF64);
HWY_EXPORT(ProductF32);
HWY_EXPORT(ProductF64);
HWY_EXPORT(SumsF32);
HWY_EXPORT(SumsF64);

void ModePowers(const Powers<float>& p) { HWY_DYNAMIC_DISPATCH(PowersF32)(p); }
void ModePowers(const Powers<double>& p) { HWY_DYNAMIC_DISPATCH(PowersF64)(p); }
void Multiply(const SmallProduct<float>& p) { HWY_DYNAMIC_DISPATCH(ProductF32)(p); }
void Multiply(const SmallProduct<double>& p) { HWY_DYNAMIC_DISPATCH(ProductF64)(p); }
void SumModes(const ModeSums<float>& s) { HWY_DYNAMIC_DISPATCH(SumsF32)(s); }
void SumModes(const ModeSums<double>& s) { HWY_DYNAMIC_DISPATCH(SumsF64)(s); }

}  // namespace ssm_internal
}  // namespace residual
#endif  // HWY_ONCE
