#include "ops/scan/selective_scan.h"

#include <algorithm>
#include <vector>

#include "ops/scan/scan_inputs.h"
#include "ops/scan/selective_scan_f64.h"
#include "ops/scan/selective_scan_kernels.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

using scan_internal::CheckInputs;
using scan_internal::kChunk;
using scan_internal::Restarts;
using scan_internal::ScanArgs;
using scan_internal::ScanGradients;
using scan_internal::ScanOutputs;

constexpr char kName[] = "selective_scan";

// Tasks wanted of a scan, of so many channels at most each: the backward pass sums the gradients of
// B and C over a task's channels in place, and over tasks in memory.
constexpr int64_t kTasks = 8, kMostChannels = 128, kLeastChannels = 16;

const float* DataOrNull(const Tensor& x) { return x.defined() ? x.data<float>() : nullptr; }

Tensor Wide(const Tensor& x) { return x.dtype() == kBF16 ? ConvertTo(x, kF32) : x; }

// What the kernels read, and how channels are cut into tasks: by groups, and by sizes that depend
// on the shape alone.
class Scan {
 public:
  Scan(const SelectiveScanInputs& in, const std::vector<unsigned char>& restart)
      : in_(in), restart_(restart), B_(Wide(in.B)), C_(Wide(in.C)) {
    args_ = scan_internal::ArgsOf(in, B_, C_, restart);
    args_.u = in.u.raw_data();
    args_.D = DataOrNull(in.D);
    args_.z = in.z.defined() ? in.z.raw_data() : nullptr;
    args_.initial_state = DataOrNull(in.initial_state);
    const int64_t of_group = args_.dim / args_.groups;
    const int64_t wanted = of_group * args_.batch * args_.groups / kTasks / 16 * 16;
    channels_ = std::min(std::max(wanted, kLeastChannels), kMostChannels);
    tasks_of_group_ = NumChunks(of_group, channels_);
  }

  int64_t tasks() const { return args_.groups * tasks_of_group_; }  // of a row

  void Forward(SelectiveScanResult& out, Tensor* saved) const {
    const ScanOutputs outputs{out.y.mutable_raw_data(), out.last_state.mutable_data<float>(),
                              saved != nullptr ? saved->mutable_data<float>() : nullptr};
    ForTasks([&](int64_t row, int64_t, int64_t begin, int64_t end) {
      if (in_.u.dtype() == kBF16) {
        ForwardBF16(args_, outputs, row, begin, end);
      } else {
        ForwardF32(args_, outputs, row, begin, end);
      }
    });
  }

  TensorList Backward(const Tensor& saved, const Tensor& dy, const Tensor& dlast) const {
    const int64_t batch = args_.batch, dim = args_.dim, state = args_.state;
    const auto parts_of = [&](bool constant) {
      return Tensor::Uninitialized(constant ? Shape({batch, dim, state})
                                            : Shape({batch, tasks(), args_.length, state}));
    };
    Tensor du = Tensor::Uninitialized(in_.u.shape(), in_.u.dtype()), dz;
    if (in_.z.defined()) dz = Tensor::Uninitialized(in_.z.shape(), in_.z.dtype());
    Tensor ddelta = Tensor::Uninitialized(in_.delta.shape());
    Tensor dA = Tensor::Uninitialized({batch, dim, state});
    Tensor dB = parts_of(args_.constant_B), dC = parts_of(args_.constant_C);
    Tensor dD = Tensor::Uninitialized({batch, dim}), dbias = Tensor::Uninitialized({batch, dim});
    Tensor dinitial = Tensor::Uninitialized({batch, dim, state});
    const ScanGradients g{dy.defined() ? dy.raw_data() : nullptr,
                          DataOrNull(dlast),
                          saved.data<float>(),
                          du.mutable_raw_data(),
                          dz.defined() ? dz.mutable_raw_data() : nullptr,
                          ddelta.mutable_data<float>(),
                          dA.mutable_data<float>(),
                          dB.mutable_data<float>(),
                          dC.mutable_data<float>(),
                          dD.mutable_data<float>(),
                          dbias.mutable_data<float>(),
                          dinitial.mutable_data<float>()};
    ForTasks([&](int64_t row, int64_t task, int64_t begin, int64_t end) {
      if (in_.u.dtype() == kBF16) {
        BackwardBF16(args_, g, row, task, tasks(), begin, end);
      } else {
        BackwardF32(args_, g, row, task, tasks(), begin, end);
      }
    });
    return {du,
            ddelta,
            SumOf(dA, batch, dim * state, in_.A),
            SumOfParts(dB, in_.B),
            SumOfParts(dC, in_.C),
            in_.D.defined() ? SumOf(dD, batch, dim, in_.D) : Tensor(),
            dz,
            in_.delta_bias.defined() ? SumOf(dbias, batch, dim, in_.delta_bias) : Tensor(),
            in_.initial_state.defined() ? dinitial : Tensor()};
  }

 private:
  template <class F>
  void ForTasks(F f) const {
    const int64_t of_group = args_.dim / args_.groups, of_row = tasks();
    ParallelFor(args_.batch * of_row, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t task = i % of_row, first = task % tasks_of_group_ * channels_;
        const int64_t group = task / tasks_of_group_ * of_group;
        f(i / of_row, task, group + first, group + std::min(of_group, first + channels_));
      }
    });
  }

  // The sum of `count` rows of n numbers, in the shape and dtype of an input.
  static Tensor SumOf(const Tensor& rows, int64_t count, int64_t n, const Tensor& like) {
    Tensor sum = Tensor::Zeros(like.shape());
    const float* from = rows.data<float>();
    float* to = sum.mutable_data<float>();
    ParallelFor(n, 1 << 12, [&](int64_t begin, int64_t end) {
      for (int64_t r = 0; r < count; ++r) {
        for (int64_t i = begin; i < end; ++i) to[i] += from[r * n + i];
      }
    });
    return ConvertTo(sum, like.dtype());
  }

  // Of what tasks left for B or C: [batch, tasks, length, state], or, constant, [batch, ..].
  Tensor SumOfParts(const Tensor& parts, const Tensor& like) const {
    if (like.rank() == 2) return SumOf(parts, args_.batch, args_.dim * args_.state, like);
    Tensor sum = Tensor::Zeros(like.shape());
    const float* from = parts.data<float>();
    float* to = sum.mutable_data<float>();
    // A group's tasks; those of all groups where the operand has none.
    const int64_t groups = like.rank() == 4 ? args_.groups : 1, of_group = tasks() / groups;
    const int64_t state = args_.state, length = args_.length;
    ParallelFor(args_.batch * length, 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = i / length, t = i % length;
        for (int64_t task = 0; task < tasks(); ++task) {
          const float* part = from + ((row * tasks() + task) * length + t) * state;
          float* total = to + (i * groups + task / of_group) * state;
          for (int64_t n = 0; n < state; ++n) total[n] += part[n];
        }
      }
    });
    return ConvertTo(sum, like.dtype());
  }

  const SelectiveScanInputs& in_;
  const std::vector<unsigned char>& restart_;
  const Tensor B_, C_;
  ScanArgs args_;
  int64_t channels_, tasks_of_group_;  // channels of a task at most
};

}  // namespace

SelectiveScanResult SelectiveScan(const SelectiveScanInputs& in) {
  CheckInputs(kName, in);
  const int64_t batch = in.u.dim(0), length = in.u.dim(1), dim = in.u.dim(2), state = in.A.dim(1);
  const std::vector<unsigned char> restart = Restarts(in.segments);
  SelectiveScanResult out{Tensor::Uninitialized(in.u.shape(), in.u.dtype()),
                          Tensor::Uninitialized({batch, dim, state}, in.A.dtype())};
  Tape* tape = Tape::For(
      {&in.u, &in.delta, &in.A, &in.B, &in.C, &in.D, &in.z, &in.delta_bias, &in.initial_state});
  Tensor saved;
  if (in.u.dtype() == kF64) {
    scan_internal::ForwardF64(in, restart, out);
  } else if (dim > 0) {
    if (tape != nullptr)
      saved = Tensor::Uninitialized({batch, NumChunks(length, kChunk), state, dim});
    Scan(in, restart).Forward(out, tape != nullptr ? &saved : nullptr);
  }
  if (tape != nullptr) {
    tape->Record(
        kName,
        {&in.u, &in.delta, &in.A, &in.B, &in.C, &in.D, &in.z, &in.delta_bias, &in.initial_state},
        {&out.y, &out.last_state}, [in, restart, saved](auto dy, Needs) {
          return in.u.dtype() == kF64 ? scan_internal::BackwardF64(in, restart, dy[0], dy[1])
                                      : Scan(in, restart).Backward(saved, dy[0], dy[1]);
        });
  }
  return out;
}

}  // namespace residual
