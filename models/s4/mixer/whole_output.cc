#include "models/s4/mixer/whole_output.h"

#include <complex>

#include "Eigen/Core"
#include "Eigen/LU"
#include "tensor/base/check.h"
#include "tensor/base/parallel.h"

namespace residual {
namespace {

using Complex = std::complex<double>;

// R with (re, im) of x A_bar = (re, im) of x, times R, for a row x of one channel. A sum over modes
// is twice its real part, so A_bar is linear in re and im, not in x.
Eigen::MatrixXd RowMap(const DiscreteSsm& system, int64_t channel) {
  const int64_t modes = system.A_bar.dim(1);
  const int64_t rank = system.left.defined() ? system.left.dim(1) : 0;
  const auto at = [](const Tensor& x, int64_t row, int64_t n) {
    const double* p = x.data<double>() + 2 * (row * x.dim(-2) + n);
    return Complex(p[0], p[1]);
  };
  Eigen::MatrixXd R = Eigen::MatrixXd::Zero(2 * modes, 2 * modes);
  for (int64_t m = 0; m < 2 * modes; ++m) {
    const Complex unit = m < modes ? Complex(1, 0) : Complex(0, 1);
    const int64_t from = m % modes;
    Eigen::VectorXcd to = Eigen::VectorXcd::Zero(modes);
    to[from] = unit * at(system.A_bar, channel, from);
    for (int64_t i = 0; i < rank; ++i) {
      const double sum = 2 * (unit * at(system.left, channel * rank + i, from)).real();
      for (int64_t n = 0; n < modes; ++n) to[n] -= sum * at(system.right, channel * rank + i, n);
    }
    R.row(m) << to.real().transpose(), to.imag().transpose();
  }
  return R;
}

Eigen::MatrixXd Power(Eigen::MatrixXd base, int64_t exponent) {
  Eigen::MatrixXd power = Eigen::MatrixXd::Identity(base.rows(), base.cols());
  for (; exponent > 0; exponent /= 2) {
    if (exponent % 2 == 1) power = power * base;
    if (exponent > 1) base = base * base;
  }
  return power;
}

}  // namespace

Tensor WholeOutput(const DiscreteSsm& system, int64_t length) {
  RESIDUAL_CHECK(system.conjugate_pairs) << "a system of pairs is expected";
  const int64_t channels = system.C.dim(0), modes = system.C.dim(1);
  Tensor C = Tensor::Uninitialized(system.C.shape(), kF64);
  double* const to = C.mutable_data<double>();
  ParallelFor(channels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t h = begin; h < end; ++h) {
      const double* truncated = system.C.data<double>() + 2 * h * modes;
      Eigen::VectorXd right(2 * modes);
      for (int64_t n = 0; n < modes; ++n) {
        right[n] = truncated[2 * n];
        right[modes + n] = truncated[2 * n + 1];
      }
      const Eigen::MatrixXd whole = Eigen::MatrixXd::Identity(2 * modes, 2 * modes) -
                                    Power(RowMap(system, h), length).transpose();
      const Eigen::VectorXd c = whole.partialPivLu().solve(right);
      for (int64_t n = 0; n < modes; ++n) {
        to[2 * (h * modes + n)] = c[n];
        to[2 * (h * modes + n) + 1] = c[modes + n];
      }
    }
  });
  return C;
}

}  // namespace residual
