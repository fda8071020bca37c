#include "ops/ssd/ssd.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#include "ops/elementwise/elementwise.h"
#include "ops/gemm/gemm.h"
#include "ops/layout/layout.h"
#include "ops/scan/scan_inputs.h"
#include "ops/ssd/ssd_kernels.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace ssd_internal {

void Multiply(const float* a, bool transpose_a, const float* b, bool transpose_b, float* c,
              int64_t M, int64_t N, int64_t K) {
  Gemm({kF32, a, b, nullptr, c, nullptr, M, N, K, transpose_a, transpose_b, Activation::kNone});
}
void Multiply(const double* a, bool transpose_a, const double* b, bool transpose_b, double* c,
              int64_t M, int64_t N, int64_t K) {
  Gemm({kF64, a, b, nullptr, c, nullptr, M, N, K, transpose_a, transpose_b, Activation::kNone});
}

}  // namespace ssd_internal
namespace {

using ssd_internal::kChunk;
using ssd_internal::kMostSteps;
using ssd_internal::kPadding;
using ssd_internal::Multiply;
using ssd_internal::SsdArgs;
using ssd_internal::SsdGradients;
using ssd_internal::SsdOutputs;

constexpr char kName[] = "ssd";

// Tasks wanted at least; each leaves gradients of B and C of its own.
constexpr int64_t kTasks = 8;

void Check(const SsdInputs& in) {
  const Tensor &x = in.x, &A = in.A;
  RESIDUAL_CHECK_OP(kName, x.rank() == 4 && IsFloat(x.dtype()) && x.dtype() != kF16, x);
  const DType exact = x.dtype() == kF64 ? kF64 : kF32;
  const int64_t batch = x.dim(0), length = x.dim(1), heads = x.dim(2), head_dim = x.dim(3);
  RESIDUAL_CHECK_OP(kName, in.dt.shape() == Shape({batch, length, heads}) && in.dt.dtype() == exact,
                    in.dt, x);
  RESIDUAL_CHECK_OP(kName, A.shape() == Shape({heads}) && A.dtype() == exact, A, x);
  for (const Tensor* b : {&in.B, &in.C}) {
    RESIDUAL_CHECK_OP(
        kName, b->rank() == 4 && b->dim(0) == batch && b->dim(1) == length && b->dim(2) > 0, *b, x);
    RESIDUAL_CHECK_OP(kName, heads % b->dim(2) == 0, *b, x);
    RESIDUAL_CHECK_OP(kName, b->dtype() == x.dtype() || b->dtype() == exact, *b, x);
  }
  RESIDUAL_CHECK_OP(kName, in.B.shape() == in.C.shape(), in.B, in.C);
  RESIDUAL_CHECK_OP(kName,
                    !in.D.defined() || ((in.D.shape() == Shape({heads}) ||
                                         in.D.shape() == Shape({heads, head_dim})) &&
                                        in.D.dtype() == exact),
                    in.D, x);
  RESIDUAL_CHECK_OP(kName,
                    !in.dt_bias.defined() ||
                        (in.dt_bias.shape() == Shape({heads}) && in.dt_bias.dtype() == exact),
                    in.dt_bias, x);
  RESIDUAL_CHECK_OP(kName,
                    !in.initial_state.defined() ||
                        (in.initial_state.shape() == Shape({batch, heads, head_dim, in.B.dim(3)}) &&
                         in.initial_state.dtype() == exact),
                    in.initial_state, x, in.B);
  RESIDUAL_CHECK_OP(kName,
                    !in.segments.defined() || (in.segments.dtype() == kI64 &&
                                               in.segments.shape() == Shape({batch, length})),
                    in.segments, x);
  RESIDUAL_CHECK(in.dt_min <= in.dt_max) << "ssd: dt_min " << in.dt_min << ", dt_max " << in.dt_max;
}

// What the kernels read, and how heads are cut into tasks. S: what is computed in.
template <class S>
class Dual {
 public:
  Dual(const SsdInputs& in, const std::vector<unsigned char>& restart, bool backward)
      : in_(in), dtype_(DTypeOf<S>()) {
    const NoTape off;
    args_.batch = in.x.dim(0);
    args_.length = in.x.dim(1);
    args_.heads = in.x.dim(2);
    args_.head_dim = in.x.dim(3);
    args_.groups = in.B.dim(2);
    args_.state = in.B.dim(3);
    const int64_t of_group = args_.heads / args_.groups;
    heads_ = std::max<int64_t>(1, args_.batch * args_.heads / kTasks);
    heads_ = std::min(heads_, std::max<int64_t>(1, of_group));
    tasks_of_group_ = NumChunks(of_group, heads_);

    const Tensor biased = in.dt_bias.defined() ? Add(in.dt, in.dt_bias) : in.dt;
    raw_ = Transpose(biased, 1, 2);
    positive_ = in.softplus ? Softplus(raw_) : raw_;
    delta_ = Tensor::Uninitialized(raw_.shape(), dtype_);
    std::transform(positive_.data<S>(), positive_.data<S>() + positive_.elements(),
                   delta_.template mutable_data<S>(), [&](S x) {
                     return x < Least() ? Least() : x > Most() ? Most() : x;  // NaN stays
                   });
    B_ = Transpose(ConvertTo(in.B, dtype_), 1, 2);
    C_ = Transpose(ConvertTo(in.C, dtype_), 1, 2);
    if (in.D.defined()) {
      D_ = in.D.rank() == 2
               ? in.D
               : BroadcastTo(in.D.Reshaped({args_.heads, 1}), {args_.heads, args_.head_dim});
    }
    args_.x = in.x.raw_data();
    args_.delta = delta_.template data<S>();
    args_.A = in.A.data<S>();
    args_.B = B_.template data<S>();
    args_.C = C_.template data<S>();
    args_.D = DataOrNull(D_);
    args_.initial = DataOrNull(in.initial_state);
    args_.restart = restart.empty() ? nullptr : restart.data();
    args_.scores = nullptr;
    if (args_.length > kMostSteps || backward) MakeScores(backward);
  }

  void Forward(SsdResult& out) const {
    const SsdOutputs<S> outputs{out.y.mutable_raw_data(), out.last_state.mutable_data<S>()};
    ForTasks([&](int64_t row, int64_t, int64_t begin, int64_t end) {
      const bool steps = args_.length > 0 && args_.length <= kMostSteps;
      if constexpr (std::is_same_v<S, double>) {
        steps ? ssd_internal::StepsF64(args_, outputs, row, begin, end)
              : ssd_internal::ForwardF64(args_, outputs, row, begin, end);
      } else if (in_.x.dtype() == kBF16) {
        steps ? ssd_internal::StepsBF16(args_, outputs, row, begin, end)
              : ssd_internal::ForwardBF16(args_, outputs, row, begin, end);
      } else {
        steps ? ssd_internal::StepsF32(args_, outputs, row, begin, end)
              : ssd_internal::ForwardF32(args_, outputs, row, begin, end);
      }
    });
  }

  TensorList Backward(const Tensor& dy, const Tensor& dlast) const {
    const NoTape off;
    const int64_t batch = args_.batch, heads = args_.heads, tasks = batch * TasksOfRow();
    Tensor dx = Tensor::Uninitialized(in_.x.shape(), in_.x.dtype());
    Tensor ddelta = Tensor::Uninitialized(delta_.shape(), dtype_);
    Tensor dA = Tensor::Zeros({batch, heads}, dtype_);
    Tensor dD = Tensor::Zeros({batch, heads, args_.head_dim}, dtype_);
    Tensor dinitial = Tensor::Uninitialized({batch, heads, args_.head_dim, args_.state}, dtype_);
    const int64_t of_scores = ScoresOfGroup() + kPadding, of_states = args_.length * args_.state;
    Tensor dscores = Tensor::Zeros({tasks, of_scores}, dtype_);
    Tensor dB = Tensor::Zeros({tasks, of_states}, dtype_);
    Tensor dC = Tensor::Zeros({tasks, of_states}, dtype_);
    SsdGradients<S> g{dy.defined() ? dy.raw_data() : nullptr,
                      DataOrNull(dlast),
                      dx.mutable_raw_data(),
                      ddelta.mutable_data<S>(),
                      dA.mutable_data<S>(),
                      dD.mutable_data<S>(),
                      dinitial.mutable_data<S>(),
                      dscores.mutable_data<S>(),
                      dB.mutable_data<S>(),
                      dC.mutable_data<S>()};
    ForTasks([&](int64_t row, int64_t task, int64_t begin, int64_t end) {
      SsdGradients<S> of_task = g;
      of_task.dscores += task * of_scores;
      of_task.dB += task * of_states;
      of_task.dC += task * of_states;
      if constexpr (std::is_same_v<S, double>) {
        ssd_internal::BackwardF64(args_, of_task, row, begin, end);
      } else if (in_.x.dtype() == kBF16) {
        ssd_internal::BackwardBF16(args_, of_task, row, begin, end);
      } else {
        ssd_internal::BackwardF32(args_, of_task, row, begin, end);
      }
    });
    Tensor dB_all = Tensor::Uninitialized(B_.shape(), dtype_), dC_all = dB_all.Clone();
    SumTasks(g, of_scores, of_states, dB_all.mutable_data<S>(), dC_all.mutable_data<S>());
    const Tensor draw = ThroughDelta(ddelta);
    const Tensor dbias = RowSums(draw);
    return {dx,
            Transpose(draw, 1, 2),
            SumOf(dA.template data<S>(), batch, heads),
            ConvertTo(Transpose(dB_all, 1, 2), in_.B.dtype()),
            ConvertTo(Transpose(dC_all, 1, 2), in_.C.dtype()),
            DOf(dD),
            in_.dt_bias.defined() ? SumOf(dbias.template data<S>(), batch, heads) : Tensor(),
            in_.initial_state.defined() ? dinitial : Tensor()};
  }

 private:
  static const S* DataOrNull(const Tensor& x) { return x.defined() ? x.data<S>() : nullptr; }
  S Least() const { return static_cast<S>(in_.dt_min); }
  S Most() const { return static_cast<S>(in_.dt_max); }
  int64_t ScoresOfGroup() const { return args_.chunks() * kChunk * kChunk; }
  int64_t TasksOfRow() const { return args_.groups * tasks_of_group_; }

  template <class F>
  void ForTasks(F f) const {
    const int64_t of_group = args_.heads / args_.groups;
    ParallelFor(args_.batch * TasksOfRow(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t task = i % TasksOfRow(), first = task % tasks_of_group_ * heads_;
        const int64_t group = task / tasks_of_group_ * of_group;
        f(i / TasksOfRow(), i, group + first, group + std::min(of_group, first + heads_));
      }
    });
  }

  // f(group of all rows, chunk, its first position, how many)
  template <class F>
  void ForChunks(F f) const {
    ParallelFor(args_.batch * args_.groups * args_.chunks(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t chunk = i % args_.chunks(), first = chunk * kChunk;
        f(i / args_.chunks(), chunk, first, std::min(kChunk, args_.length - first));
      }
    });
  }

  // C B^T of each chunk, or B C^T: once for all heads of a group.
  void MakeScores(bool transposed) {
    scores_ =
        Tensor::Uninitialized({args_.batch * args_.groups * ScoresOfGroup() + kPadding}, dtype_);
    S* scores = scores_.template mutable_data<S>();
    const S *left = transposed ? args_.B : args_.C, *right = transposed ? args_.C : args_.B;
    ForChunks([&](int64_t group, int64_t chunk, int64_t first, int64_t q) {
      const int64_t at = (group * args_.length + first) * args_.state;
      Multiply(left + at, false, right + at, true,
               scores + (group * args_.chunks() + chunk) * kChunk * kChunk, q, q, args_.state);
    });
    args_.scores = scores;
  }

  // The tasks' parts added up, and the gradient of the scores brought to B and C.
  void SumTasks(const SsdGradients<S>& g, int64_t of_scores, int64_t of_states, S* dB,
                S* dC) const {
    const int64_t N = args_.state;
    ForChunks([&](int64_t group, int64_t chunk, int64_t first, int64_t q) {
      const int64_t at = (group * args_.length + first) * N;
      std::vector<S> dscores(q * q), by_scores(q * N);
      const int64_t task = group * tasks_of_group_;
      const auto add = [&](const S* parts, int64_t stride, int64_t n, S* to) {
        for (int64_t i = 0; i < tasks_of_group_; ++i) {
          const S* part = parts + (task + i) * stride;
          for (int64_t j = 0; j < n; ++j) to[j] += part[j];
        }
      };
      add(g.dscores + chunk * kChunk * kChunk, of_scores, q * q, dscores.data());
      Multiply(dscores.data(), false, args_.C + at, false, dB + at, q, N, q);
      Multiply(dscores.data(), true, args_.B + at, false, dC + at, q, N, q);
      add(g.dB + first * N, of_states, q * N, dB + at);
      add(g.dC + first * N, of_states, q * N, dC + at);
    });
  }

  // From delta to dt + dt_bias, [batch, heads, length].
  Tensor ThroughDelta(Tensor& ddelta) const {
    const S* positive = positive_.template data<S>();
    S* d = ddelta.mutable_data<S>();
    for (int64_t i = 0; i < ddelta.elements(); ++i) {
      if (positive[i] < Least() || positive[i] > Most()) d[i] = 0;
    }
    return in_.softplus ? ActivationGradient(Activation::kSoftplus, raw_, ddelta) : ddelta;
  }

  // [batch, heads, length] to [batch, heads].
  Tensor RowSums(const Tensor& x) const {
    Tensor sums = Tensor::Uninitialized({args_.batch, args_.heads}, dtype_);
    for (int64_t i = 0; i < sums.elements(); ++i) {
      double sum = 0;
      for (int64_t t = 0; t < args_.length; ++t) sum += x.data<S>()[i * args_.length + t];
      sums.mutable_data<S>()[i] = static_cast<S>(sum);
    }
    return sums;
  }

  static Tensor SumOf(const S* rows, int64_t count, int64_t n) {
    Tensor sum = Tensor::Zeros({n}, DTypeOf<S>());
    S* to = sum.mutable_data<S>();
    for (int64_t r = 0; r < count; ++r) {
      for (int64_t i = 0; i < n; ++i) to[i] += rows[r * n + i];
    }
    return sum;
  }

  Tensor DOf(const Tensor& dD) const {
    if (!in_.D.defined()) return Tensor();
    const Tensor all = SumOf(dD.data<S>(), args_.batch, args_.heads * args_.head_dim);
    if (in_.D.rank() == 2) return all.Reshaped(in_.D.shape());
    Tensor sums = Tensor::Zeros(in_.D.shape(), dtype_);
    for (int64_t i = 0; i < all.elements(); ++i) {
      sums.mutable_data<S>()[i / args_.head_dim] += all.data<S>()[i];
    }
    return sums;
  }

  const SsdInputs& in_;
  const DType dtype_;
  // raw_: dt + dt_bias; positive_: before the limits; [batch, heads, length] like delta_.
  Tensor raw_, positive_, delta_, B_, C_, D_, scores_;
  SsdArgs<S> args_;
  int64_t heads_, tasks_of_group_;  // heads of a task at most
};

}  // namespace

SsdResult Ssd(const SsdInputs& in) {
  Check(in);
  const std::vector<unsigned char> restart = scan_internal::Restarts(in.segments);
  const DType exact = in.A.dtype();
  SsdResult out{Tensor::Uninitialized(in.x.shape(), in.x.dtype()),
                Tensor::Uninitialized({in.x.dim(0), in.x.dim(2), in.x.dim(3), in.B.dim(3)}, exact)};
  exact == kF64 ? Dual<double>(in, restart, false).Forward(out)
                : Dual<float>(in, restart, false).Forward(out);
  if (Tape* tape =
          Tape::For({&in.x, &in.dt, &in.A, &in.B, &in.C, &in.D, &in.dt_bias, &in.initial_state})) {
    tape->Record(kName, {&in.x, &in.dt, &in.A, &in.B, &in.C, &in.D, &in.dt_bias, &in.initial_state},
                 {&out.y, &out.last_state}, [in, restart](auto dy, Needs) {
                   return in.A.dtype() == kF64
                              ? Dual<double>(in, restart, true).Backward(dy[0], dy[1])
                              : Dual<float>(in, restart, true).Backward(dy[0], dy[1]);
                 });
  }
  return out;
}

}  // namespace residual
