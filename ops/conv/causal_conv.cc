#include "ops/conv/causal_conv.h"

#include <algorithm>
#include <vector>

#include "ops/conv/causal_conv_kernels.h"
#include "ops/layout/layout.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

using conv_internal::ConvArgs;
using conv_internal::ConvKernels;
using conv_internal::InputGradients;

constexpr char kName[] = "causal_conv";

// Positions of a task; the gradients of weight and bias are summed task by task.
constexpr int64_t kPositions = 64;

void Check(const CausalConvInputs& in) {
  const Tensor &x = in.x, &weight = in.weight, &bias = in.bias, &state = in.initial_state;
  RESIDUAL_CHECK_OP(kName, x.rank() == 3 && IsFloat(x.dtype()) && x.dtype() != kF16, x);
  RESIDUAL_CHECK_OP(kName, weight.rank() == 2 && weight.dim(0) == x.dim(2) && weight.dim(1) >= 1,
                    weight, x);
  const auto fits = [&](const Tensor& w) {
    return w.dtype() == x.dtype() || (x.dtype() == kBF16 && w.dtype() == kF32);
  };
  RESIDUAL_CHECK_OP(kName, fits(weight), weight, x);
  RESIDUAL_CHECK_OP(kName, !bias.defined() || (bias.shape() == Shape({x.dim(2)}) && fits(bias)),
                    bias, x);
  const Shape window = {x.dim(0), x.dim(2), weight.dim(1) - 1};
  RESIDUAL_CHECK_OP(kName,
                    !state.defined() || (state.shape() == window && state.dtype() == x.dtype()),
                    state, x, weight);
  RESIDUAL_CHECK_OP(kName,
                    !in.segments.defined() || (in.segments.dtype() == kI64 &&
                                               in.segments.shape() == Shape({x.dim(0), x.dim(1)})),
                    in.segments, x);
}

// [.., a, b] -> [.., b, a]; never recorded.
Tensor Turned(const Tensor& x) {
  const NoTape off;
  return Transpose(x, -2, -1);
}

// The first position that each one sees, 1 - width being the oldest of the state.
std::vector<int64_t> FirstSeen(const Tensor& segments, int64_t width) {
  if (!segments.defined()) return {};
  const int64_t length = segments.dim(1);
  const int64_t* s = segments.data<int64_t>();
  std::vector<int64_t> first(segments.elements());
  for (int64_t i = 0; i < segments.elements(); ++i) {
    const int64_t t = i % length;
    first[i] = t == 0 ? 1 - width : s[i] == s[i - 1] ? first[i - 1] : t;
  }
  return first;
}

DType Arithmetic(const Tensor& x) { return x.dtype() == kF64 ? kF64 : kF32; }

ConvKernels KernelsOf(DType dtype) {
  return dtype == kF64    ? conv_internal::KernelsF64()
         : dtype == kBF16 ? conv_internal::KernelsBF16()
                          : conv_internal::KernelsF32();
}

// An operand as the kernels read it, kept while they do.
class Convolution {
 public:
  explicit Convolution(const CausalConvInputs& in)
      : in_(in),
        weight_(Turned(ConvertTo(in.weight, Arithmetic(in.x)))),
        zeros_(Tensor::Zeros({in.x.dim(2)}, in.x.dtype())),
        first_(FirstSeen(in.segments, in.weight.dim(1))),
        kernels_(KernelsOf(in.x.dtype())) {
    if (in.bias.defined()) bias_ = ConvertTo(in.bias, Arithmetic(in.x));
    if (in.initial_state.defined()) before_ = Turned(in.initial_state);
    args_.length = in.x.dim(1);
    args_.channels = in.x.dim(2);
    args_.width = in.weight.dim(1);
    args_.x = in.x.raw_data();
    args_.before = before_.raw_data();
    args_.zeros = zeros_.raw_data();
    args_.weight = weight_.raw_data();
    args_.bias = bias_.raw_data();
    args_.first = first_.empty() ? nullptr : first_.data();
    args_.silu = in.silu;
  }

  Tensor Forward() const {
    Tensor y = Tensor::Uninitialized(in_.x.shape(), in_.x.dtype());
    void* to = y.mutable_raw_data();
    ForTasks(0, [&](int64_t row, int64_t begin, int64_t end) {
      kernels_.forward(args_, row, begin, end, to);
    });
    return y;
  }

  // The window after the last position.
  Tensor LastState() const {
    const int64_t batch = in_.x.dim(0), past = args_.width - 1, channels = args_.channels;
    Tensor last = Tensor::Uninitialized({batch, channels, past}, in_.x.dtype());
    VisitDType(in_.x.dtype(), [&](auto tag) {
      using T = decltype(tag);
      T* to = last.mutable_data<T>();
      for (int64_t row = 0; row < batch; ++row) {
        const int64_t first = args_.length == 0 ? -past : args_.First(row, args_.length - 1);
        for (int64_t k = 0; k < past; ++k) {
          const int64_t t = args_.length - past + k;
          const T* from = t < first ? zeros_.data<T>() : args_.Row<T>(row, t);
          for (int64_t c = 0; c < channels; ++c) to[(row * channels + c) * past + k] = from[c];
        }
      }
    });
    return last;
  }

  TensorList Backward(const Tensor& dy, const Tensor& dlast) const {
    if (args_.length == 0) {  // the last state is the first
      return {Tensor(), Tensor(), Tensor(), in_.initial_state.defined() ? dlast : Tensor()};
    }
    const DType wide = Arithmetic(in_.x);
    Tensor dpre;
    if (!dy.defined()) {
      dpre = Tensor::Zeros(in_.x.shape(), wide);
    } else if (!in_.silu) {
      dpre = ConvertTo(dy, wide);
    } else {
      dpre = Tensor::Uninitialized(in_.x.shape(), wide);
      void* to = dpre.mutable_raw_data();
      ForTasks(0, [&](int64_t row, int64_t begin, int64_t end) {
        kernels_.before_silu(args_, row, begin, end, dy.raw_data(), to);
      });
    }
    const int64_t batch = in_.x.dim(0), past = args_.width - 1;
    Tensor dx = Tensor::Uninitialized(in_.x.shape(), in_.x.dtype());
    Tensor dbefore = Tensor::Uninitialized({batch, past, args_.channels}, in_.x.dtype());
    const Tensor dlast_rows = dlast.defined() ? Turned(dlast) : Tensor();
    const InputGradients g{dpre.raw_data(), dlast_rows.raw_data(), dx.mutable_raw_data(),
                           dbefore.mutable_raw_data()};
    ForTasks(-past, [&](int64_t row, int64_t begin, int64_t end) {
      kernels_.input(args_, row, begin, end, g);
    });
    const Tensor sums = wide == kF64 ? WeightSums<double>(dpre) : WeightSums<float>(dpre);
    const Tensor dweight = Turned(sums.Rows(0, args_.width));
    return {dx, ConvertTo(dweight, in_.weight.dtype()),
            in_.bias.defined() ? ConvertTo(sums.Row(args_.width), in_.bias.dtype()) : Tensor(),
            in_.initial_state.defined() ? Turned(dbefore) : Tensor()};
  }

 private:
  // Of positions from `first` on.
  template <class F>
  void ForTasks(int64_t first, F f) const {
    if (args_.channels == 0) return;
    const int64_t count = args_.length - first, of_row = NumChunks(count, kPositions);
    ParallelFor(in_.x.dim(0) * of_row, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t at = i % of_row * kPositions;
        f(i / of_row, first + at, first + std::min(count, at + kPositions));
      }
    });
  }

  // Gradients of the weight and, the last row, of the bias: [width + 1, channels].
  template <class F>
  Tensor WeightSums(const Tensor& dpre) const {
    const int64_t of_row = NumChunks(args_.length, kPositions), tasks = in_.x.dim(0) * of_row;
    const int64_t n = (args_.width + 1) * args_.channels;
    Tensor parts = Tensor::Uninitialized({tasks, n}, dpre.dtype());
    Tensor sums = Tensor::Zeros({args_.width + 1, args_.channels}, dpre.dtype());
    F* part = parts.mutable_data<F>();
    ForTasks(0, [&](int64_t row, int64_t begin, int64_t end) {
      kernels_.weight(args_, row, begin, end, dpre.raw_data(),
                      part + (row * of_row + begin / kPositions) * n);
    });
    F* sum = sums.mutable_data<F>();
    ParallelFor(n, 1 << 10, [&](int64_t begin, int64_t end) {
      for (int64_t task = 0; task < tasks; ++task) {
        for (int64_t i = begin; i < end; ++i) sum[i] += part[task * n + i];
      }
    });
    return sums;
  }

  const CausalConvInputs& in_;
  const Tensor weight_, zeros_;
  Tensor bias_, before_;
  const std::vector<int64_t> first_;
  const ConvKernels kernels_;
  ConvArgs args_;
};

// A step of generation: nothing is turned or copied.
bool IsStep(const CausalConvInputs& in) {
  const auto is_f32 = [](const Tensor& w) { return !w.defined() || w.dtype() == kF32; };
  return in.x.dim(1) == 1 && in.weight.dim(1) == 4 && in.x.dtype() != kF64 && is_f32(in.weight) &&
         is_f32(in.bias) && !in.segments.defined();
}

CausalConvResult Step(const CausalConvInputs& in) {
  const int64_t batch = in.x.dim(0), channels = in.x.dim(2);
  const int64_t size = static_cast<int64_t>(SizeOf(in.x.dtype()));
  CausalConvResult out{Tensor::Uninitialized(in.x.shape(), in.x.dtype()),
                       Tensor::Uninitialized({batch, channels, 3}, in.x.dtype())};
  const ConvKernels kernels = KernelsOf(in.x.dtype());
  const auto* const x = static_cast<const char*>(in.x.raw_data());
  const auto* const before = static_cast<const char*>(in.initial_state.raw_data());
  auto* const y = static_cast<char*>(out.y.mutable_raw_data());
  auto* const last = static_cast<char*>(out.last_state.mutable_raw_data());
  ParallelFor(batch, 4, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t at = row * channels * size;
      kernels.step({channels, x + at, before == nullptr ? nullptr : before + 3 * at,
                    in.weight.data<float>(), in.bias.defined() ? in.bias.data<float>() : nullptr,
                    in.silu, y + at, last + 3 * at});
    }
  });
  return out;
}

}  // namespace

CausalConvResult CausalConv(const CausalConvInputs& in) {
  Check(in);
  CausalConvResult out;
  if (IsStep(in)) {
    out = Step(in);
  } else {
    const Convolution convolution(in);
    out.y = convolution.Forward();
    out.last_state = convolution.LastState();
  }
  if (Tape* tape = Tape::For({&in.x, &in.weight, &in.bias, &in.initial_state})) {
    tape->Record(kName, {&in.x, &in.weight, &in.bias, &in.initial_state}, {&out.y, &out.last_state},
                 [in](auto dy, Needs) { return Convolution(in).Backward(dy[0], dy[1]); });
  }
  return out;
}

}  // namespace residual
