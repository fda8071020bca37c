#include "ops/ssm_recurrence/ssm_recurrence.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <vector>

#include "ops/ssm_kernel/channel_params.h"
#include "ops/ssm_kernel/diagonal_mode.h"
#include "ops/ssm_kernel/dplr_discrete.h"
#include "ops/ssm_recurrence/ssm_recurrence_kernels.h"
#include "tensor/base/parallel.h"

namespace residual {
namespace {

using ssm_internal::ChannelParam;
using ssm_internal::Complex;
using ssm_internal::ComplexList;
using ssm_internal::Recurrence;

constexpr char kName[] = "ssm_recurrence";
constexpr int64_t kPad = 16;  // no vector of double is longer

Tensor AsTensor(const ComplexList& numbers, const Shape& shape) {
  const auto* from = reinterpret_cast<const double*>(numbers.data());
  return Tensor::Of<double>(shape, absl::MakeConstSpan(from, 2 * numbers.size()));
}

// The numbers of a channel, which `to` gets as [rows, 2, padded].
void Split(const double* from, int64_t rows, int64_t modes, int64_t padded,
           std::vector<double>& to) {
  to.assign(rows * 2 * padded, 0);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t n = 0; n < modes; ++n) {
      to[2 * i * padded + n] = from[2 * (i * modes + n)];
      to[(2 * i + 1) * padded + n] = from[2 * (i * modes + n) + 1];
    }
  }
}

// One channel's share of the work, for all sequences of the batch.
template <class T>
void RunChannel(const DiscreteSsm& ssm, const Tensor& u, const Tensor& state, int64_t h, T* y,
                T* last) {
  const int64_t batch = u.dim(0), length = u.dim(1), H = u.dim(2), N = ssm.A_bar.dim(1);
  const int64_t rank = ssm.left.defined() ? ssm.left.dim(1) : 0;
  const int64_t padded = (N + kPad - 1) / kPad * kPad;
  std::vector<double> a, b, c, left, right, x, in(length), out(length);
  Split(ssm.A_bar.data<double>() + 2 * h * N, 1, N, padded, a);
  Split(ssm.B_bar.data<double>() + 2 * h * N, 1, N, padded, b);
  Split(ssm.C.data<double>() + 2 * h * N, 1, N, padded, c);
  if (rank > 0) {
    Split(ssm.left.data<double>() + 2 * h * rank * N, rank, N, padded, left);
    Split(ssm.right.data<double>() + 2 * h * rank * N, rank, N, padded, right);
  }
  for (int64_t i = 0; i < batch; ++i) {
    const int64_t at = 2 * (i * H + h) * N;
    x.assign(2 * padded, 0);
    for (int64_t n = 0; n < N && state.defined(); ++n) {
      x[n] = state.data<T>()[at + 2 * n];
      x[padded + n] = state.data<T>()[at + 2 * n + 1];
    }
    for (int64_t t = 0; t < length; ++t) in[t] = u.data<T>()[(i * length + t) * H + h];
    ssm_internal::RunRecurrence(Recurrence{padded, rank, length, ssm.conjugate_pairs, a.data(),
                                           b.data(), c.data(), left.data(), right.data(), x.data(),
                                           in.data(), out.data()});
    for (int64_t t = 0; t < length; ++t) y[(i * length + t) * H + h] = static_cast<T>(out[t]);
    for (int64_t n = 0; n < N; ++n) {
      last[at + 2 * n] = static_cast<T>(x[n]);
      last[at + 2 * n + 1] = static_cast<T>(x[padded + n]);
    }
  }
}

template <class T>
SsmOutput Run(const DiscreteSsm& ssm, const Tensor& u, const Tensor& state) {
  const int64_t batch = u.dim(0), H = u.dim(2), N = ssm.A_bar.dim(1);
  SsmOutput output{Tensor::Uninitialized(u.shape(), u.dtype()),
                   Tensor::Uninitialized({batch, H, N, 2}, u.dtype())};
  T *const y = output.y.mutable_data<T>(), *const last = output.state.mutable_data<T>();
  const int64_t work = std::max<int64_t>(1, batch * u.dim(1) * N);
  ParallelFor(H, std::max<int64_t>(1, (1 << 14) / work), [&](int64_t begin, int64_t end) {
    for (int64_t h = begin; h < end; ++h) RunChannel(ssm, u, state, h, y, last);
  });
  return output;
}

}  // namespace

DiscreteSsm DiscretizeDiagonal(const Tensor& A, const Tensor& B, const Tensor& C, const Tensor& dt,
                               const DiagonalKernelOptions& options, int64_t length) {
  const bool softmax = options.discretization == Discretization::kDssSoftmax;
  RESIDUAL_CHECK(!softmax || length > 0)
      << kName << ": the softmax over positions is a recurrence for a length only";
  const std::vector<double> steps = ssm_internal::ReadSteps(kName, dt);
  const int64_t H = static_cast<int64_t>(steps.size());
  const ChannelParam as(kName, A, 3, H, dt.dtype()), bs(kName, B, 3, H, dt.dtype());
  const ChannelParam cs(kName, C, 3, H, dt.dtype());
  const int64_t N = as.size();
  RESIDUAL_CHECK_OP(kName, bs.size() == N && cs.size() == N, A, B, C);
  ComplexList a(H * N), b(H * N), c(H * N);
  for (int64_t h = 0; h < H; ++h) {
    as.Read(h, a.data() + h * N);
    bs.Read(h, b.data() + h * N);
    cs.Read(h, c.data() + h * N);
    for (int64_t n = h * N; n < (h + 1) * N; ++n) {
      const ssm_internal::Mode mode =
          ssm_internal::ModeOf({a[n], b[n], 1, steps[h], length}, options.discretization);
      RESIDUAL_CHECK(mode.shift == 0) << kName << ": mode " << n << " of the softmax grows";
      a[n] = mode.z;
      b[n] = mode.w;
    }
  }
  const Shape shape{H, N, 2};
  return {AsTensor(a, shape), Tensor(),           Tensor(),
          AsTensor(b, shape), AsTensor(c, shape), options.conjugate_pairs};
}

DiscreteSsm DiscretizeDplr(const Tensor& Lambda, const Tensor& P, const Tensor& Q, const Tensor& B,
                           const Tensor& C, const Tensor& dt, bool conjugate_pairs) {
  const ssm_internal::DplrOperands x(kName, Lambda, P, Q, B, C, dt, conjugate_pairs);
  const int64_t H = x.channels, N = x.modes, r = x.rank;
  ComplexList a, b, c, left, right;
  for (int64_t h = 0; h < H; ++h) {
    const ssm_internal::DplrChannel channel = x.Channel(h);
    const ssm_internal::DplrDiscrete discrete = Discretize(channel);
    const ComplexList input = DiscreteInput(channel, discrete);
    a.insert(a.end(), discrete.diagonal.begin(), discrete.diagonal.end());
    left.insert(left.end(), discrete.left.begin(), discrete.left.end());
    right.insert(right.end(), discrete.right.begin(), discrete.right.end());
    b.insert(b.end(), input.begin(), input.end());
    c.insert(c.end(), channel.C.begin(), channel.C.end());
  }
  const Shape shape{H, N, 2}, ranks{H, r, N, 2};
  return {AsTensor(a, shape), AsTensor(left, ranks), AsTensor(right, ranks),
          AsTensor(b, shape), AsTensor(c, shape),    conjugate_pairs};
}

SsmOutput SsmRecurrence(const DiscreteSsm& ssm, const Tensor& u, const Tensor& state) {
  RESIDUAL_CHECK_OP(kName, u.rank() == 3 && (u.dtype() == kF32 || u.dtype() == kF64), u);
  const Tensor& a = ssm.A_bar;
  RESIDUAL_CHECK_OP(kName, a.rank() == 3 && a.dim(2) == 2 && a.dim(0) == u.dim(2), a, u);
  RESIDUAL_CHECK_OP(kName, ssm.B_bar.shape() == a.shape() && ssm.C.shape() == a.shape(), a,
                    ssm.B_bar, ssm.C);
  RESIDUAL_CHECK_OP(kName,
                    !state.defined() || (state.dtype() == u.dtype() &&
                                         state.shape() == a.shape().Inserted(0, u.dim(0))),
                    state, a, u);
  return u.dtype() == kF64 ? Run<double>(ssm, u, state) : Run<float>(ssm, u, state);
}

}  // namespace residual
