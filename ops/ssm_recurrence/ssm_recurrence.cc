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
using ssm_internal::kPad;

constexpr char kName[] = "ssm_recurrence";
// Numbers of the state that a thread is worth.
constexpr int64_t kLeastWork = 1 << 11;

Tensor AsTensor(const ComplexList& numbers, const Shape& shape) {
  const auto* from = reinterpret_cast<const double*>(numbers.data());
  return Tensor::Of<double>(shape, absl::MakeConstSpan(from, 2 * numbers.size()));
}

// [rows, modes, 2] to [rows, 2, padded], zeros behind.
void Split(const double* from, int64_t rows, int64_t modes, int64_t padded, double* to) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t n = 0; n < modes; ++n) {
      to[2 * i * padded + n] = from[2 * (i * modes + n)];
      to[(2 * i + 1) * padded + n] = from[2 * (i * modes + n) + 1];
    }
  }
}

template <class T>
SsmOutput Run(const PackedSsm& ssm, const Tensor& u, const Tensor& state) {
  const int64_t batch = u.dim(0), length = u.dim(1), H = u.dim(2), N = ssm.modes;
  SsmOutput output{Tensor::Uninitialized(u.shape(), u.dtype()),
                   Tensor::Uninitialized({batch, H, N, 2}, u.dtype())};
  ssm_internal::Recurrence<T> run;
  run.batch = batch;
  run.length = length;
  run.channels = H;
  run.modes = N;
  run.padded = ssm.numbers.dim(3);
  run.rank = ssm.rank;
  run.pairs = ssm.conjugate_pairs;
  run.numbers = ssm.numbers.data<double>();
  run.u = u.data<T>();
  run.state = state.defined() ? state.data<T>() : nullptr;
  run.y = output.y.mutable_data<T>();
  run.last = output.state.mutable_data<T>();
  const int64_t work = std::max<int64_t>(1, batch * std::max<int64_t>(1, length) * run.padded);
  ParallelFor(H, std::max<int64_t>(1, kLeastWork / work),
              [&](int64_t begin, int64_t end) { ssm_internal::RunRecurrence(run, begin, end); });
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

PackedSsm Pack(const DiscreteSsm& ssm) {
  const Tensor& a = ssm.A_bar;
  RESIDUAL_CHECK_OP(kName, a.rank() == 3 && a.dim(2) == 2, a);
  RESIDUAL_CHECK_OP(kName, ssm.B_bar.shape() == a.shape() && ssm.C.shape() == a.shape(), a,
                    ssm.B_bar, ssm.C);
  const int64_t H = a.dim(0), N = a.dim(1), padded = (N + kPad - 1) / kPad * kPad;
  PackedSsm packed;
  packed.modes = N;
  packed.rank = ssm.left.defined() ? ssm.left.dim(1) : 0;
  packed.conjugate_pairs = ssm.conjugate_pairs;
  const int64_t parts = 3 + 2 * packed.rank;
  packed.numbers = Tensor::Zeros({H, parts, 2, padded}, kF64);
  double* to = packed.numbers.mutable_data<double>();
  for (int64_t h = 0; h < H; ++h) {
    for (const Tensor* x : {&a, &ssm.B_bar, &ssm.C, &ssm.left, &ssm.right}) {
      const int64_t rows = !x->defined() ? 0 : x->rank() == 3 ? 1 : packed.rank;
      if (rows > 0) Split(x->data<double>() + 2 * h * rows * N, rows, N, padded, to);
      to += rows * 2 * padded;
    }
  }
  return packed;
}

SsmOutput SsmRecurrence(const PackedSsm& ssm, const Tensor& u, const Tensor& state) {
  RESIDUAL_CHECK_OP(kName, u.rank() == 3 && (u.dtype() == kF32 || u.dtype() == kF64), u);
  RESIDUAL_CHECK_OP(kName, ssm.numbers.dim(0) == u.dim(2), ssm.numbers, u);
  RESIDUAL_CHECK_OP(
      kName,
      !state.defined() || (state.dtype() == u.dtype() &&
                           state.shape() == Shape({u.dim(0), u.dim(2), ssm.modes, 2})),
      state, u);
  return u.dtype() == kF64 ? Run<double>(ssm, u, state) : Run<float>(ssm, u, state);
}

SsmOutput SsmRecurrence(const DiscreteSsm& ssm, const Tensor& u, const Tensor& state) {
  return SsmRecurrence(Pack(ssm), u, state);
}

}  // namespace residual
