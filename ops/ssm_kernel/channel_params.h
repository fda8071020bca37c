// The operands of state-space kernels, channel by channel and in double. For this folder and
// ops/ssm_recurrence only.

#ifndef RESIDUAL_OPS_SSM_KERNEL_CHANNEL_PARAMS_H_
#define RESIDUAL_OPS_SSM_KERNEL_CHANNEL_PARAMS_H_

#include <complex>
#include <cstdint>
#include <vector>

#include "tensor/core/op_check.h"
#include "tensor/core/tensor.h"

namespace residual {
namespace ssm_internal {

using Complex = std::complex<double>;

// g conj(f): the gradient of what f(p) = df/dp times p came from.
inline Complex Back(Complex g, Complex f) { return g * std::conj(f); }

// Complex numbers that belong to a channel: all of an operand without a channel axis.
class ChannelParam {
 public:
  // `rank`: of the operand with its channel axis.
  ChannelParam(const char* op, const Tensor& x, int rank, int64_t channels, DType dtype) : x_(x) {
    RESIDUAL_CHECK_OP(op, x.dtype() == dtype && (dtype == kF32 || dtype == kF64), x);
    RESIDUAL_CHECK_OP(op, (x.rank() == rank || x.rank() == rank - 1) && x.dim(-1) == 2, x);
    shared_ = x.rank() == rank - 1;
    RESIDUAL_CHECK_OP(op, shared_ || x.dim(0) == channels, x);
    size_ = x.shape().elements(shared_ ? 0 : 1, x.rank()) / 2;
  }

  int64_t size() const { return size_; }
  bool shared() const { return shared_; }
  const Tensor& tensor() const { return x_; }

  void Read(int64_t channel, Complex* to) const {
    const int64_t first = shared_ ? 0 : channel * size_;
    if (x_.dtype() == kF64) {
      ReadAs<double>(first, to);
    } else {
      ReadAs<float>(first, to);
    }
  }

  // The operand's gradient from [H, size] of doubles; added up in order of channels if it is
  // shared.
  Tensor Gradient(const std::vector<Complex>& grads, int64_t channels) const {
    std::vector<Complex> sums;
    if (shared_) {
      sums.assign(size_, Complex());
      for (int64_t i = 0; i < channels * size_; ++i) sums[i % size_] += grads[i];
    }
    const std::vector<Complex>& from = shared_ ? sums : grads;
    const Tensor doubles = Tensor::Of<double>(
        x_.shape(),
        absl::MakeConstSpan(reinterpret_cast<const double*>(from.data()), x_.elements()));
    return ConvertTo(doubles, x_.dtype());
  }

 private:
  template <class T>
  void ReadAs(int64_t first, Complex* to) const {
    const T* from = x_.data<T>() + 2 * first;
    for (int64_t i = 0; i < size_; ++i) to[i] = {from[2 * i], from[2 * i + 1]};
  }

  Tensor x_;
  bool shared_;
  int64_t size_;
};

inline std::vector<double> ReadSteps(const char* op, const Tensor& dt) {
  RESIDUAL_CHECK_OP(op, dt.rank() == 1 && (dt.dtype() == kF32 || dt.dtype() == kF64), dt);
  return dt.ToDoubles();
}

}  // namespace ssm_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_SSM_KERNEL_CHANNEL_PARAMS_H_
