#include "ops/fft/fft_conv.h"

#include <algorithm>
#include <memory>

#include "ops/fft/fft_conv_kernels.h"
#include "ops/simd/stream.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

using fft_internal::ConvFilter;
using fft_internal::ConvGradients;
using fft_internal::ConvPart;
using fft_internal::ConvPlan;
using fft_internal::ConvSignals;
using fft_internal::kBackwardBuffers;
using fft_internal::kChannels;
using fft_internal::kForwardBuffers;

constexpr char kName[] = "fft_conv";

void Check(const FftConvInputs& in) {
  const Tensor &u = in.u, &kernel = in.kernel;
  RESIDUAL_CHECK_OP(kName, u.rank() == 3 && IsFloat(u.dtype()) && u.dtype() != kF16, u);
  const DType exact = u.dtype() == kF64 ? kF64 : kF32;
  RESIDUAL_CHECK_OP(
      kName, kernel.rank() == 2 && kernel.dim(0) == u.dim(2) && kernel.dtype() == exact, kernel, u);
  const Tensor &reverse = in.reverse_kernel, &D = in.D, &added = in.added;
  RESIDUAL_CHECK_OP(
      kName, !reverse.defined() || (reverse.shape() == kernel.shape() && reverse.dtype() == exact),
      reverse, kernel, u);
  RESIDUAL_CHECK_OP(kName, !D.defined() || (D.shape() == Shape({u.dim(2)}) && D.dtype() == exact),
                    D, u);
  RESIDUAL_CHECK_OP(kName,
                    !added.defined() || (added.shape() == u.shape() && added.dtype() == u.dtype()),
                    added, u);
}

template <class T>
const T* DataOrNull(const Tensor& x) {
  return x.defined() ? x.data<T>() : nullptr;
}

// One convolution of signals in Element, computed in T.
template <class T, class Element>
class Conv {
 public:
  explicit Conv(const FftConvInputs& in)
      : in_(in),
        batch_(in.u.dim(0)),
        taps_(std::min(in.kernel.dim(1), in.u.dim(1))),
        plan_(fft_internal::PlanFor<ConvPlan<T>>(in.u.dim(1))),
        filter_{plan_.get(),
                in.u.dim(1),
                in.u.dim(2),
                taps_,
                in.kernel.dim(1),
                in.kernel.data<T>(),
                DataOrNull<T>(in.reverse_kernel),
                DataOrNull<T>(in.D)} {
    // Each task transforms its channels' kernels for itself: so rows are parted among tasks only
    // where channels alone are too few, and not down to less than four. By the shape alone, for the
    // gradients of kernels are sums over a task's rows, and then over tasks.
    constexpr int64_t kTasks = 16, kLeastRows = 4;
    blocks_ = NumChunks(filter_.channels, kChannels);
    const int64_t wanted = NumChunks(kTasks, blocks_);
    rows_ = std::max(std::min(kLeastRows, batch_), NumChunks(batch_, wanted));
    groups_ = NumChunks(batch_, rows_);
  }

  Tensor Forward() const {
    Tensor y = Tensor::Uninitialized(in_.u.shape(), in_.u.dtype());
    const ConvSignals<Element> signals{in_.u.data<Element>(), DataOrNull<Element>(in_.added),
                                       y.mutable_data<Element>(), PastCaches(y.bytes())};
    ForTasks(kForwardBuffers, [&](int64_t, const ConvPart& part, T* scratch) {
      ConvForward(filter_, signals, part, scratch);
    });
    return y;
  }

  // Of u, kernel, reverse_kernel, D, added.
  TensorList Backward(const Tensor& dy, Needs needs) const {
    const bool filters = needs[1] || needs[2] || needs[3];
    Tensor du;
    if (needs[0]) du = Tensor::Uninitialized(in_.u.shape(), in_.u.dtype());
    const auto parts_of = [&](const Tensor& like, int64_t n) {
      return like.defined() && filters
                 ? Tensor::Uninitialized({groups_, filter_.channels, n}, like.dtype())
                 : Tensor();
    };
    Tensor dkernel = parts_of(in_.kernel, taps_), dreverse = parts_of(in_.reverse_kernel, taps_);
    Tensor dD = parts_of(in_.kernel, 1);
    T* const to_kernel = filters ? dkernel.mutable_data<T>() : nullptr;
    T* const to_reverse = dreverse.defined() ? dreverse.mutable_data<T>() : nullptr;
    T* const to_D = filters ? dD.mutable_data<T>() : nullptr;
    Element* const to_u = needs[0] ? du.mutable_data<Element>() : nullptr;
    ForTasks(kBackwardBuffers, [&](int64_t group, const ConvPart& part, T* scratch) {
      const int64_t first = group * filter_.channels, first_tap = first * taps_;
      const ConvGradients<T, Element> g{filters ? in_.u.data<Element>() : nullptr,
                                        dy.data<Element>(),
                                        to_u,
                                        PastCaches(in_.u.bytes()),
                                        filters ? to_kernel + first_tap : nullptr,
                                        to_reverse ? to_reverse + first_tap : nullptr,
                                        filters ? to_D + first : nullptr};
      ConvBackward(filter_, g, part, scratch);
    });
    return {du, needs[1] ? Sum(dkernel, in_.kernel) : Tensor(),
            needs[2] ? Sum(dreverse, in_.reverse_kernel) : Tensor(),
            needs[3] ? Sum(dD, in_.D) : Tensor(), needs[4] ? dy : Tensor()};
  }

 private:
  // f(group of rows, part, scratch).
  template <class F>
  void ForTasks(int64_t buffers, F f) const {
    ParallelFor(blocks_ * groups_, 1, [&](int64_t begin, int64_t end) {
      const StorageRef scratch = AllocateHost(ScratchOf(*plan_, buffers) * sizeof(T));
      for (int64_t i = begin; i < end; ++i) {
        const int64_t group = i / blocks_, channel = i % blocks_ * kChannels;
        const ConvPart part{group * rows_, std::min(batch_, (group + 1) * rows_), channel,
                            std::min(filter_.channels, channel + kChannels)};
        f(group, part, static_cast<T*>(scratch->data()));
      }
    });
  }

  // Over groups, of [groups, channels, n]; what `like` has more in a row is zero.
  Tensor Sum(const Tensor& parts, const Tensor& like) const {
    Tensor sum = Tensor::Zeros(like.shape(), like.dtype());
    const int64_t n = parts.dim(2), row = like.rank() == 2 ? like.dim(1) : 1;
    const int64_t channels = filter_.channels;
    const T* from = parts.data<T>();
    T* to = sum.mutable_data<T>();
    ParallelFor(channels, kChannels, [&](int64_t begin, int64_t end) {
      for (int64_t group = 0; group < groups_; ++group) {
        for (int64_t c = begin; c < end; ++c) {
          const T* part = from + (group * channels + c) * n;
          for (int64_t i = 0; i < n; ++i) to[c * row + i] += part[i];
        }
      }
    });
    return sum;
  }

  const FftConvInputs& in_;
  const int64_t batch_, taps_;
  const std::shared_ptr<const ConvPlan<T>> plan_;
  const ConvFilter<T> filter_;
  int64_t blocks_, rows_, groups_;  // blocks of channels, rows of a group, groups
};

// f(a Conv) of the dtype.
template <class F>
auto WithConv(const FftConvInputs& in, F f) {
  switch (in.u.dtype()) {
    case kF64:
      return f(Conv<double, double>(in));
    case kBF16:
      return f(Conv<float, BFloat16>(in));
    default:
      return f(Conv<float, float>(in));
  }
}

}  // namespace

Tensor FftConv(const FftConvInputs& in) {
  Check(in);
  Tensor y = WithConv(in, [](const auto& conv) { return conv.Forward(); });
  const auto inputs = {&in.u, &in.kernel, &in.reverse_kernel, &in.D, &in.added};
  if (Tape* tape = Tape::For(inputs)) {
    // du = conj(K) dy and dK = sum over the batch of conj(u) dy, by frequency: sums over what is
    // t - s apart the other way round.
    tape->Record(kName, inputs, {&y}, [in](auto dy, Needs needs) {
      return WithConv(in, [&](const auto& conv) { return conv.Backward(dy[0], needs); });
    });
  }
  return y;
}

}  // namespace residual
