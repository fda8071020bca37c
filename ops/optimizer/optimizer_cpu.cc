#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/optimizer/optimizer_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target:
#include <algorithm>
#include <cmath>

#include "hwy/highway.h"
#include "ops/optimizer/optimizer_kernels.h"
#include "ops/simd/convert-inl.h"
#include "tensor/core/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace optimizer_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using residual::HWY_NAMESPACE::LoadWidened;

// The step on one vector, or with D = CappedTag<T, 1> on one element: the same operations in the
// same order, so an element's result does not depend on where it lies. A product that is added to
// something must be a MulAdd: of Mul and Add the compiler makes one in whole vectors, but not in
// single lanes.
template <class G, class D, class T = hn::TFromD<D>>
void AdamVector(D d, const AdamArgs& args, int64_t i) {
  const auto set = [d](double value) HWY_ATTR { return hn::Set(d, static_cast<T>(value)); };
  T* param = static_cast<T*>(args.param) + i;
  T* exp_avg = static_cast<T*>(args.exp_avg) + i;
  T* exp_avg_sq = static_cast<T*>(args.exp_avg_sq) + i;
  auto p = hn::LoadU(d, param), m = hn::LoadU(d, exp_avg), v = hn::LoadU(d, exp_avg_sq);
  auto g = hn::Mul(LoadWidened(d, static_cast<const G*>(args.grad) + i), set(args.grad_scale));
  if (args.l2 != 0) g = hn::MulAdd(set(args.l2), p, g);
  m = hn::MulAdd(set(args.one_minus_beta1), hn::Sub(g, m), m);
  v = hn::MulAdd(hn::Mul(set(args.one_minus_beta2), g), g, hn::Mul(v, set(args.beta2)));
  hn::StoreU(m, d, exp_avg);
  hn::StoreU(v, d, exp_avg_sq);
  if (args.max_exp_avg_sq != nullptr) {
    T* max_exp_avg_sq = static_cast<T*>(args.max_exp_avg_sq) + i;
    // The new one where it is larger or NaN.
    const auto largest = hn::LoadU(d, max_exp_avg_sq);
    v = hn::IfThenElse(hn::Ge(largest, v), largest, v);
    hn::StoreU(v, d, max_exp_avg_sq);
  }
  const auto root = hn::Div(hn::Sqrt(v), set(args.root_correction2));
  const auto update = hn::Div(hn::Mul(set(args.step_size), m), hn::Add(root, set(args.eps)));
  hn::StoreU(hn::MulSub(p, set(args.shrink), update), d, param);
}

template <class G, class D, class T = hn::TFromD<D>>
void SgdVector(D d, const SgdArgs& args, int64_t i) {
  const auto set = [d](double value) HWY_ATTR { return hn::Set(d, static_cast<T>(value)); };
  T* param = static_cast<T*>(args.param) + i;
  auto p = hn::LoadU(d, param);
  auto g = hn::Mul(LoadWidened(d, static_cast<const G*>(args.grad) + i), set(args.grad_scale));
  if (args.l2 != 0) g = hn::MulAdd(set(args.l2), p, g);
  if (args.buffer != nullptr) {
    T* buffer = static_cast<T*>(args.buffer) + i;
    auto b = hn::Mul(set(args.grad_factor), g);
    if (args.buffer_factor != 0) {
      b = hn::MulAdd(hn::LoadU(d, buffer), set(args.buffer_factor), b);
    }
    hn::StoreU(b, d, buffer);
    g = args.nesterov ? hn::MulAdd(set(args.momentum), b, g) : b;
  }
  hn::StoreU(hn::NegMulAdd(set(args.lr), g, p), d, param);
}

template <class T, class G>
void Adam(const AdamArgs& args, int64_t begin, int64_t end) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
  const AdamArgs copy = args;  // on the stack, where the stores below cannot reach it
  int64_t i = begin;
  for (; i + lanes <= end; i += lanes) AdamVector<G>(d, copy, i);
  for (; i < end; ++i) AdamVector<G>(hn::CappedTag<T, 1>(), copy, i);
}

template <class T, class G>
void Sgd(const SgdArgs& args, int64_t begin, int64_t end) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
  const SgdArgs copy = args;
  int64_t i = begin;
  for (; i + lanes <= end; i += lanes) SgdVector<G>(d, copy, i);
  for (; i < end; ++i) SgdVector<G>(hn::CappedTag<T, 1>(), copy, i);
}

void AdamF32(const AdamArgs& args, int64_t begin, int64_t end) {
  Adam<float, float>(args, begin, end);
}
void AdamF64(const AdamArgs& args, int64_t begin, int64_t end) {
  Adam<double, double>(args, begin, end);
}
void AdamBF16(const AdamArgs& args, int64_t begin, int64_t end) {
  Adam<float, BFloat16>(args, begin, end);
}
void SgdF32(const SgdArgs& args, int64_t begin, int64_t end) {
  Sgd<float, float>(args, begin, end);
}
void SgdF64(const SgdArgs& args, int64_t begin, int64_t end) {
  Sgd<double, double>(args, begin, end);
}
void SgdBF16(const SgdArgs& args, int64_t begin, int64_t end) {
  Sgd<float, BFloat16>(args, begin, end);
}

using DD = hn::ScalableTag<double>;

// As many elements as doubles fill a vector.
hn::Vec<DD> LoadAsF64(DD d, const double* p) { return hn::LoadU(d, p); }
hn::Vec<DD> LoadAsF64(DD d, const float* p) {
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<float, DD>(), p));
}
hn::Vec<DD> LoadAsF64(DD d, const BFloat16* p) {
  return hn::PromoteTo(d, LoadWidened(hn::Rebind<float, DD>(), p));
}
double ToF64(double x) { return x; }
double ToF64(float x) { return x; }
double ToF64(BFloat16 x) { return x.ToFloat(); }

template <class T>
double Squares(const T* HWY_RESTRICT x, int64_t n) {
  const DD d;
  const int64_t lanes = hn::Lanes(d);
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    const auto a = LoadAsF64(d, x + i), b = LoadAsF64(d, x + i + lanes);
    const auto c = LoadAsF64(d, x + i + 2 * lanes), e = LoadAsF64(d, x + i + 3 * lanes);
    s0 = hn::MulAdd(a, a, s0);
    s1 = hn::MulAdd(b, b, s1);
    s2 = hn::MulAdd(c, c, s2);
    s3 = hn::MulAdd(e, e, s3);
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
  for (; i < n; ++i) sum += ToF64(x[i]) * ToF64(x[i]);
  return sum;
}

double SquaresF32(const void* x, int64_t n) { return Squares(static_cast<const float*>(x), n); }
double SquaresF64(const void* x, int64_t n) { return Squares(static_cast<const double*>(x), n); }
double SquaresBF16(const void* x, int64_t n) { return Squares(static_cast<const BFloat16*>(x), n); }

// 0 * x is NaN exactly for NaN and infinities, and a NaN stays in a sum.
template <class T>
bool AnyNonFinite(const T* HWY_RESTRICT x, int64_t n) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
  const auto zero = hn::Zero(d);
  auto a = zero, b = zero, c = zero, e = zero;
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    a = hn::MulAdd(hn::LoadU(d, x + i), zero, a);
    b = hn::MulAdd(hn::LoadU(d, x + i + lanes), zero, b);
    c = hn::MulAdd(hn::LoadU(d, x + i + 2 * lanes), zero, c);
    e = hn::MulAdd(hn::LoadU(d, x + i + 3 * lanes), zero, e);
  }
  bool found = !hn::AllFalse(d, hn::IsNaN(hn::Add(hn::Add(a, b), hn::Add(c, e))));
  for (; i < n; ++i) found |= !std::isfinite(x[i]);
  return found;
}

bool AnyNonFiniteF32(const void* x, int64_t n) {
  return AnyNonFinite(static_cast<const float*>(x), n);
}
bool AnyNonFiniteF64(const void* x, int64_t n) {
  return AnyNonFinite(static_cast<const double*>(x), n);
}

bool AnyNonFinite16(const void* x, uint16_t exponent, int64_t n) {
  const hn::ScalableTag<uint16_t> d;
  const int64_t lanes = hn::Lanes(d);
  const uint16_t* bits = static_cast<const uint16_t*>(x);
  const auto mask = hn::Set(d, exponent);
  auto largest = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    largest = hn::Max(largest, hn::And(hn::LoadU(d, bits + i), mask));
  }
  bool found = !hn::AllFalse(d, hn::Eq(largest, mask));
  for (; i < n; ++i) found |= (bits[i] & exponent) == exponent;
  return found;
}

}  // namespace HWY_NAMESPACE
}  // namespace optimizer_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace optimizer_internal {

HWY_EXPORT(AdamF32);
HWY_EXPORT(AdamF64);
HWY_EXPORT(AdamBF16);
HWY_EXPORT(SgdF32);
HWY_EXPORT(SgdF64);
HWY_EXPORT(SgdBF16);
HWY_EXPORT(SquaresF32);
HWY_EXPORT(SquaresF64);
HWY_EXPORT(SquaresBF16);
HWY_EXPORT(AnyNonFiniteF32);
HWY_EXPORT(AnyNonFiniteF64);
HWY_EXPORT(AnyNonFinite16);

void AdamF32(const AdamArgs& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(AdamF32)(args, begin, end);
}
void AdamF64(const AdamArgs& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(AdamF64)(args, begin, end);
}
void AdamBF16(const AdamArgs& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(AdamBF16)(args, begin, end);
}
void SgdF32(const SgdArgs& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(SgdF32)(args, begin, end);
}
void SgdF64(const SgdArgs& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(SgdF64)(args, begin, end);
}
void SgdBF16(const SgdArgs& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(SgdBF16)(args, begin, end);
}
double SquaresF32(const void* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(SquaresF32)(x, n); }
double SquaresF64(const void* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(SquaresF64)(x, n); }
double SquaresBF16(const void* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(SquaresBF16)(x, n); }
bool AnyNonFiniteF32(const void* x, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(AnyNonFiniteF32)(x, n);
}
bool AnyNonFiniteF64(const void* x, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(AnyNonFiniteF64)(x, n);
}
bool AnyNonFinite16(const void* x, uint16_t exponent, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(AnyNonFinite16)(x, exponent, n);
}

}  // namespace optimizer_internal
}  // namespace residual
#endif  // HWY_ONCE
