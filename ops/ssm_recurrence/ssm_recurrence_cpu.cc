#include "ops/ssm_recurrence/ssm_recurrence_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/ssm_recurrence/ssm_recurrence_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/highway.h"
#include "ops/ssm_kernel/dplr_discrete.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace ssm_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Tag = hn::CappedTag<double, 16>;

template <class V>
HWY_INLINE double Sum(Tag d, V x) {
  return hn::GetLane(hn::SumOfLanes(d, x));
}

void Run(const Recurrence& r) {
  const Tag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), N = r.modes;
  const double factor = r.pairs ? 2 : 1;
  for (int64_t t = 0; t < r.length; ++t) {
    double sum_re[kMaxRank], sum_im[kMaxRank];
    for (int64_t i = 0; i < r.rank; ++i) {
      const double* right = r.right + 2 * i * N;
      auto re = hn::Zero(d), im = hn::Zero(d);
      for (int64_t n = 0; n < N; n += lanes) {
        const auto x_re = hn::LoadU(d, r.x + n), x_im = hn::LoadU(d, r.x + N + n);
        const auto w_re = hn::LoadU(d, right + n), w_im = hn::LoadU(d, right + N + n);
        re = hn::NegMulAdd(w_im, x_im, hn::MulAdd(w_re, x_re, re));
        im = hn::MulAdd(w_im, x_re, hn::MulAdd(w_re, x_im, im));
      }
      sum_re[i] = factor * Sum(d, re);
      sum_im[i] = r.pairs ? 0 : Sum(d, im);
    }
    const auto u = hn::Set(d, r.u[t]);
    auto y = hn::Zero(d);
    for (int64_t n = 0; n < N; n += lanes) {
      const auto x_re = hn::LoadU(d, r.x + n), x_im = hn::LoadU(d, r.x + N + n);
      const auto a_re = hn::LoadU(d, r.a + n), a_im = hn::LoadU(d, r.a + N + n);
      auto re = hn::NegMulAdd(a_im, x_im, hn::Mul(a_re, x_re));
      auto im = hn::MulAdd(a_im, x_re, hn::Mul(a_re, x_im));
      for (int64_t i = 0; i < r.rank; ++i) {
        const double* left = r.left + 2 * i * N;
        const auto l_re = hn::LoadU(d, left + n), l_im = hn::LoadU(d, left + N + n);
        const auto s_re = hn::Set(d, sum_re[i]), s_im = hn::Set(d, sum_im[i]);
        re = hn::MulAdd(l_im, s_im, hn::NegMulAdd(l_re, s_re, re));
        im = hn::NegMulAdd(l_im, s_re, hn::NegMulAdd(l_re, s_im, im));
      }
      re = hn::MulAdd(hn::LoadU(d, r.b + n), u, re);
      im = hn::MulAdd(hn::LoadU(d, r.b + N + n), u, im);
      hn::StoreU(re, d, r.x + n);
      hn::StoreU(im, d, r.x + N + n);
      y = hn::MulAdd(hn::LoadU(d, r.c + n), re, y);
      y = hn::NegMulAdd(hn::LoadU(d, r.c + N + n), im, y);
    }
    r.y[t] = factor * Sum(d, y);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace ssm_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace ssm_internal {

HWY_EXPORT(Run);

void RunRecurrence(const Recurrence& r) { HWY_DYNAMIC_DISPATCH(Run)(r); }

}  // namespace ssm_internal
}  // namespace residual
#endif  // HWY_ONCE
