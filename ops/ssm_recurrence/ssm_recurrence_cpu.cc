#include <algorithm>
#include <vector>

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

// [n, 2] in T to [2, padded] in double, and back. What is behind n stays as it is.
template <class T>
HWY_INLINE void Widen(const T* from, int64_t n, int64_t padded, double* to) {
  const Tag d;
  const hn::Rebind<T, Tag> narrow;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::Vec<decltype(narrow)> re, im;
    hn::LoadInterleaved2(narrow, from + 2 * i, re, im);
    if constexpr (sizeof(T) == 8) {
      hn::StoreU(re, d, to + i);
      hn::StoreU(im, d, to + padded + i);
    } else {
      hn::StoreU(hn::PromoteTo(d, re), d, to + i);
      hn::StoreU(hn::PromoteTo(d, im), d, to + padded + i);
    }
  }
  for (; i < n; ++i) {
    to[i] = from[2 * i];
    to[padded + i] = from[2 * i + 1];
  }
}

template <class T>
HWY_INLINE void Narrow(const double* from, int64_t n, int64_t padded, T* to) {
  const Tag d;
  const hn::Rebind<T, Tag> narrow;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto re = hn::LoadU(d, from + i), im = hn::LoadU(d, from + padded + i);
    if constexpr (sizeof(T) == 8) {
      hn::StoreInterleaved2(re, im, narrow, to + 2 * i);
    } else {
      hn::StoreInterleaved2(hn::DemoteTo(narrow, re), hn::DemoteTo(narrow, im), narrow, to + 2 * i);
    }
  }
  for (; i < n; ++i) {
    to[2 * i] = static_cast<T>(from[i]);
    to[2 * i + 1] = static_cast<T>(from[padded + i]);
  }
}

// One channel: its numbers, each [2, modes].
struct Channel {
  int64_t modes, rank;
  bool pairs;
  const double *a, *b, *c, *left, *right;
};

// x, [2, modes], from before to after a position; y.
HWY_INLINE double Step(const Channel& r, double input, double* HWY_RESTRICT x) {
  const Tag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), N = r.modes;
  const double factor = r.pairs ? 2 : 1;
  double sum_re[kMaxRank], sum_im[kMaxRank];
  for (int64_t i = 0; i < r.rank; ++i) {
    const double* right = r.right + 2 * i * N;
    auto re = hn::Zero(d), im = hn::Zero(d);
    for (int64_t n = 0; n < N; n += lanes) {
      const auto x_re = hn::LoadU(d, x + n), x_im = hn::LoadU(d, x + N + n);
      const auto w_re = hn::LoadU(d, right + n), w_im = hn::LoadU(d, right + N + n);
      re = hn::NegMulAdd(w_im, x_im, hn::MulAdd(w_re, x_re, re));
      im = hn::MulAdd(w_im, x_re, hn::MulAdd(w_re, x_im, im));
    }
    sum_re[i] = factor * Sum(d, re);
    sum_im[i] = r.pairs ? 0 : Sum(d, im);
  }
  const auto u = hn::Set(d, input);
  auto y = hn::Zero(d);
  for (int64_t n = 0; n < N; n += lanes) {
    const auto x_re = hn::LoadU(d, x + n), x_im = hn::LoadU(d, x + N + n);
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
    hn::StoreU(re, d, x + n);
    hn::StoreU(im, d, x + N + n);
    y = hn::MulAdd(hn::LoadU(d, r.c + n), re, y);
    y = hn::NegMulAdd(hn::LoadU(d, r.c + N + n), im, y);
  }
  return factor * Sum(d, y);
}

template <class T>
void RunOf(const Recurrence<T>& r, int64_t begin, int64_t end) {
  const int64_t H = r.channels, part = 2 * r.padded, parts = 3 + 2 * r.rank;
  std::vector<double> x(part);
  for (int64_t h = begin; h < end; ++h) {
    const double* numbers = r.numbers + h * parts * part;
    const Channel channel{r.padded,
                          r.rank,
                          r.pairs,
                          numbers,
                          numbers + part,
                          numbers + 2 * part,
                          numbers + 3 * part,
                          numbers + (3 + r.rank) * part};
    for (int64_t i = 0; i < r.batch; ++i) {
      const int64_t at = 2 * (i * H + h) * r.modes;
      if (r.state == nullptr) {
        std::fill(x.begin(), x.end(), 0.0);
      } else {
        Widen(r.state + at, r.modes, r.padded, x.data());
      }
      const int64_t first = i * r.length * H + h;
      for (int64_t t = 0; t < r.length; ++t) {
        r.y[first + t * H] =
            static_cast<T>(Step(channel, static_cast<double>(r.u[first + t * H]), x.data()));
      }
      Narrow(x.data(), r.modes, r.padded, r.last + at);
    }
  }
}

void RunF32(const Recurrence<float>& r, int64_t begin, int64_t end) { RunOf(r, begin, end); }
void RunF64(const Recurrence<double>& r, int64_t begin, int64_t end) { RunOf(r, begin, end); }

}  // namespace HWY_NAMESPACE
}  // namespace ssm_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace ssm_internal {

HWY_EXPORT(RunF32);
HWY_EXPORT(RunF64);

void RunRecurrence(const Recurrence<float>& r, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(RunF32)(r, begin, end);
}
void RunRecurrence(const Recurrence<double>& r, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(RunF64)(r, begin, end);
}

}  // namespace ssm_internal
}  // namespace residual
#endif  // HWY_ONCE
