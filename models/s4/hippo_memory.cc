#include "models/s4/hippo_memory.h"

#include <algorithm>
#include <cmath>

#include "Eigen/Dense"
#include "tensor/base/check.h"

namespace residual {
namespace {

// sum_{s < count} K(s) K(s)^T for the kernel K(s) = A^s B, by doubling.
Eigen::MatrixXd Gram(const Eigen::MatrixXd& A, const Eigen::VectorXd& B, int64_t count) {
  const Eigen::MatrixXd one = B * B.transpose();
  Eigen::MatrixXd sum = Eigen::MatrixXd::Zero(A.rows(), A.cols());
  Eigen::MatrixXd power = Eigen::MatrixXd::Identity(A.rows(), A.cols());  // A^m, sum of m terms
  for (int bit = 62; bit >= 0; --bit) {
    sum = (sum + power * sum * power.transpose()).eval();
    power = (power * power).eval();
    if ((count >> bit & 1) == 0) continue;
    sum = (one + A * sum * A.transpose()).eval();
    power = (A * power).eval();
  }
  return sum;
}

// The inverse, without the directions that are lost in rounding.
Eigen::MatrixXd PseudoInverse(const Eigen::MatrixXd& gram) {
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(gram);
  Eigen::VectorXd inverse = solver.eigenvalues();  // rising
  const double largest = inverse[inverse.size() - 1];
  for (double& value : inverse) value = value > 1e-12 * largest ? 1 / value : 0;
  return solver.eigenvectors() * inverse.asDiagonal() * solver.eigenvectors().transpose();
}

}  // namespace

HippoMemory::HippoMemory(HippoMeasure measure, int64_t n, double window, uint64_t seed)
    : measure_(measure),
      n_(n),
      window_(window),
      system_(MakeHippo(measure, n, seed)),
      state_(Eigen::VectorXd::Zero(n)) {
  RESIDUAL_CHECK(window > 0 || (window == kWholePast && measure == HippoMeasure::kLegS))
      << Name(measure) << " cannot remember " << window << " samples";
  if (window == kWholePast) return;
  const double dt = HippoWindow(measure) / window;
  const Eigen::MatrixXd identity = Eigen::MatrixXd::Identity(n, n);
  const Eigen::PartialPivLU<Eigen::MatrixXd> implicit(identity - dt / 2 * system_.A);
  A_bar_ = implicit.solve(identity + dt / 2 * system_.A);
  B_bar_ = implicit.solve(dt * system_.B);
  if (measure != HippoMeasure::kRandom) return;
  // u_s ~ K(s)^T G^-1 sum_r K(r) u_r is the least squares solution over white noise u.
  last_ = std::max<int64_t>(1, std::llround(window)) - 1;
  inverse_gram_ = PseudoInverse(Gram(A_bar_, B_bar_, last_ + 1));
  powers_.push_back(A_bar_);
  while (last_ >> powers_.size() != 0) powers_.push_back(powers_.back() * powers_.back());
}

void HippoMemory::Step(double sample) {
  ++steps_;
  if (window_ != kWholePast) {
    state_ = (A_bar_ * state_ + B_bar_ * sample).eval();
    return;
  }
  // Below the diagonal A is -B_n B_k: both products are sums that grow with n.
  const double half = 1 / (2 * static_cast<double>(steps_));
  double before = 0, after = 0;  // sum_{k < n} B_k x_k, of the old state and of the new one
  for (int64_t n = 0; n < n_; ++n) {
    const double b = system_.B[n], diagonal = half * static_cast<double>(n + 1), old = state_[n];
    const double right = old - diagonal * old - half * b * before + 2 * half * b * sample;
    state_[n] = (right - half * b * after) / (1 + diagonal);
    before += b * old;
    after += b * state_[n];
  }
}

double HippoMemory::Recall(double ago) const {
  const double t = static_cast<double>(steps_);
  if (ago < 0 || ago > t) return 0;
  if (measure_ == HippoMeasure::kRandom) {
    const int64_t back = static_cast<int64_t>(ago);
    if (back > last_) return 0;
    Eigen::VectorXd kernel = B_bar_;
    for (size_t bit = 0; bit < powers_.size(); ++bit) {
      if (back >> bit & 1) kernel = (powers_[bit] * kernel).eval();
    }
    return kernel.dot(inverse_gram_ * state_);
  }
  if (window_ == kWholePast) {  // L_n(2 (t - ago) / t - 1), which is kLegT's basis of the last t
    return HippoBasis(HippoMeasure::kLegT, n_, ago / t).dot(state_);
  }
  const double s = ago * HippoWindow(measure_) / window_;
  return HippoBasis(measure_, n_, s).dot(state_);
}

}  // namespace residual
