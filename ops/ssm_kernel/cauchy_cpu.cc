#include "ops/ssm_kernel/cauchy_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/ssm_kernel/cauchy_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace ssm_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// s - c im, where the difference of rounded operands would lose what is left of it.
template <class D, class T, class V = hn::Vec<D>>
HWY_INLINE V Difference(D d, V s, V s_low, V c, V c_low, T im, T im_low) {
  V low = hn::NegMulAdd(c_low, hn::Set(d, im), s_low);
  low = hn::NegMulAdd(c, hn::Set(d, im_low), low);
  return hn::Add(hn::NegMulAdd(c, hn::Set(d, im), s), low);
}

template <bool kPairs, class D, class T>
void Resolvents(D d, const CauchyModes<T>& x, const Nodes<T>& nodes, T* HWY_RESTRICT to) {
  using V = hn::Vec<D>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const V one = hn::Set(d, static_cast<T>(1));
  for (int64_t j = 0; j < kNodes; j += lanes) {
    const V s = hn::LoadU(d, nodes.s + j), s_low = hn::LoadU(d, nodes.s_low + j);
    const V c = hn::LoadU(d, nodes.c + j), c_low = hn::LoadU(d, nodes.c_low + j);
    for (int64_t n = 0; n < x.modes; ++n) {
      const V re = hn::Neg(hn::Mul(c, hn::Set(d, x.re[n])));
      V e_re = re, e_im = Difference(d, s, s_low, c, c_low, x.im[n], x.im_low[n]);
      if constexpr (kPairs) {
        const V other = Difference(d, s, s_low, c, c_low, -x.im[n], -x.im_low[n]);
        e_re = hn::NegMulAdd(e_im, other, hn::Mul(re, re));
        e_im = hn::Mul(re, hn::Add(s, s));
      }
      const V scale = hn::Div(one, hn::MulAdd(e_re, e_re, hn::Mul(e_im, e_im)));
      hn::StoreU(hn::Mul(e_re, scale), d, to + 2 * n * kNodes + j);
      hn::StoreU(hn::Neg(hn::Mul(e_im, scale)), d, to + (2 * n + 1) * kNodes + j);
    }
  }
}

template <int kVectors, class D, class T>
HWY_INLINE void SumsAt(D d, const CauchyModes<T>& x, const T* HWY_RESTRICT resolvents, int64_t m,
                       int64_t j, T* HWY_RESTRICT to) {
  using V = hn::Vec<D>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  V sums[kVectors][4];
  for (int v = 0; v < kVectors; ++v) {
    for (int i = 0; i < 4; ++i) sums[v][i] = hn::Zero(d);
  }
  for (int64_t n = 0; n < x.modes; ++n) {
    const V a = hn::Set(d, x.a[m * x.modes + n]), b = hn::Set(d, x.b[m * x.modes + n]);
    for (int v = 0; v < kVectors; ++v) {
      const V re = hn::LoadU(d, resolvents + 2 * n * kNodes + j + v * lanes);
      const V im = hn::LoadU(d, resolvents + (2 * n + 1) * kNodes + j + v * lanes);
      sums[v][0] = hn::MulAdd(a, re, sums[v][0]);
      sums[v][1] = hn::MulAdd(a, im, sums[v][1]);
      sums[v][2] = hn::MulAdd(b, re, sums[v][2]);
      sums[v][3] = hn::MulAdd(b, im, sums[v][3]);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    for (int i = 0; i < 4; ++i) {
      hn::StoreU(sums[v][i], d, to + (4 * m + i) * kNodes + j + v * lanes);
    }
  }
}

template <class T>
void Forward(const CauchyModes<T>& x, const Nodes<T>& nodes, T* resolvents, T* to) {
  const hn::CappedTag<T, 16> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  if (x.pairs) {
    Resolvents<true>(d, x, nodes, resolvents);
  } else {
    Resolvents<false>(d, x, nodes, resolvents);
  }
  for (int64_t m = 0; m < x.sums; ++m) {
    for (int64_t j = 0; j < kNodes; j += 2 * lanes) SumsAt<2>(d, x, resolvents, m, j, to);
  }
}

template <class T>
HWY_INLINE void Add(double& to, T x) {
  to += static_cast<double>(x);
}

template <class T>
void Backward(const CauchyModes<T>& x, const Nodes<T>& nodes, const T* HWY_RESTRICT resolvents,
              const T* HWY_RESTRICT h, const CauchyGradients<T>& to) {
  const hn::CappedTag<T, 16> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  HWY_ALIGN T grad_re[kNodes], grad_im[kNodes];  // of R
  for (int64_t n = 0; n < x.modes; ++n) {
    const T *R_re = resolvents + 2 * n * kNodes, *R_im = R_re + kNodes;
    for (int64_t m = 0; m < x.sums; ++m) {
      const T* g = h + 4 * m * kNodes;
      const V a = hn::Set(d, x.a[m * x.modes + n]), b = hn::Set(d, x.b[m * x.modes + n]);
      V da = hn::Zero(d), db = hn::Zero(d);
      for (int64_t j = 0; j < kNodes; j += lanes) {
        const V h_re = hn::LoadU(d, g + j), h_im = hn::LoadU(d, g + kNodes + j);
        const V k_re = hn::LoadU(d, g + 2 * kNodes + j), k_im = hn::LoadU(d, g + 3 * kNodes + j);
        const V re = hn::LoadU(d, R_re + j), im = hn::LoadU(d, R_im + j);
        da = hn::MulAdd(h_re, re, hn::MulAdd(h_im, im, da));
        db = hn::MulAdd(k_re, re, hn::MulAdd(k_im, im, db));
        const V before_re = m == 0 ? hn::Zero(d) : hn::Load(d, grad_re + j);
        const V before_im = m == 0 ? hn::Zero(d) : hn::Load(d, grad_im + j);
        hn::Store(hn::MulAdd(a, h_re, hn::MulAdd(b, k_re, before_re)), d, grad_re + j);
        hn::Store(hn::MulAdd(a, h_im, hn::MulAdd(b, k_im, before_im)), d, grad_im + j);
      }
      Add(to.da[m * x.modes + n], hn::GetLane(hn::SumOfLanes(d, da)));
      Add(to.db[m * x.modes + n], hn::GetLane(hn::SumOfLanes(d, db)));
    }
    V first = hn::Zero(d), second = hn::Zero(d);
    for (int64_t j = 0; j < kNodes; j += lanes) {
      const V re = hn::LoadU(d, R_re + j), im = hn::LoadU(d, R_im + j);
      const V c = hn::LoadU(d, nodes.c + j), s = hn::LoadU(d, nodes.s + j);
      const V g_re = hn::Load(d, grad_re + j), g_im = hn::Load(d, grad_im + j);
      // conj(R)^2 = (re^2 - im^2) - 2i re im.
      const V square = hn::NegMulAdd(im, im, hn::Mul(re, re));
      const V cross = hn::Mul(hn::Add(re, re), im);
      const V e_re = hn::Neg(hn::MulAdd(g_im, cross, hn::Mul(g_re, square)));
      const V e_im = hn::NegMulAdd(g_im, square, hn::Mul(g_re, cross));
      first = hn::MulAdd(hn::Mul(c, x.pairs ? c : hn::Set(d, static_cast<T>(1))), e_re, first);
      second = hn::MulAdd(hn::Mul(c, x.pairs ? hn::Add(s, s) : hn::Set(d, static_cast<T>(1))), e_im,
                          second);
    }
    Add(to.first[n], hn::GetLane(hn::SumOfLanes(d, first)));
    Add(to.second[n], hn::GetLane(hn::SumOfLanes(d, second)));
  }
}

void ForwardF32(const CauchyModes<float>& x, const Nodes<float>& nodes, float* r, float* to) {
  Forward(x, nodes, r, to);
}
void ForwardF64(const CauchyModes<double>& x, const Nodes<double>& nodes, double* r, double* to) {
  Forward(x, nodes, r, to);
}
void BackwardF32(const CauchyModes<float>& x, const Nodes<float>& nodes, const float* r,
                 const float* h, const CauchyGradients<float>& to) {
  Backward(x, nodes, r, h, to);
}
void BackwardF64(const CauchyModes<double>& x, const Nodes<double>& nodes, const double* r,
                 const double* h, const CauchyGradients<double>& to) {
  Backward(x, nodes, r, h, to);
}

}  // namespace HWY_NAMESPACE
}  // namespace ssm_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace ssm_internal {

HWY_EXPORT(ForwardF32);
HWY_EXPORT(ForwardF64);
HWY_EXPORT(BackwardF32);
HWY_EXPORT(BackwardF64);

void CauchySums(const CauchyModes<float>& x, const Nodes<float>& nodes, float* resolvents,
                float* to) {
  HWY_DYNAMIC_DISPATCH(ForwardF32)(x, nodes, resolvents, to);
}
void CauchySums(const CauchyModes<double>& x, const Nodes<double>& nodes, double* resolvents,
                double* to) {
  HWY_DYNAMIC_DISPATCH(ForwardF64)(x, nodes, resolvents, to);
}
void AddCauchyGradients(const CauchyModes<float>& x, const Nodes<float>& nodes,
                        const float* resolvents, const float* h, const CauchyGradients<float>& to) {
  HWY_DYNAMIC_DISPATCH(BackwardF32)(x, nodes, resolvents, h, to);
}
void AddCauchyGradients(const CauchyModes<double>& x, const Nodes<double>& nodes,
                        const double* resolvents, const double* h,
                        const CauchyGradients<double>& to) {
  HWY_DYNAMIC_DISPATCH(BackwardF64)(x, nodes, resolvents, h, to);
}

}  // namespace ssm_internal
}  // namespace residual
#endif  // HWY_ONCE
