#include "interp/circuits/factored_matrix.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "Eigen/Eigenvalues"
#include "Eigen/QR"
#include "Eigen/SVD"
#include "tensor/base/check.h"

namespace residual {
namespace {

// The r x r (or smaller) upper triangle R of x = Q R.
Eigen::MatrixXd UpperTriangle(const Eigen::MatrixXd& x) {
  const Eigen::Index r = std::min(x.rows(), x.cols());
  const Eigen::HouseholderQR<Eigen::MatrixXd> qr(x);
  Eigen::MatrixXd upper = qr.matrixQR().topRows(r);
  for (Eigen::Index i = 0; i < r; ++i) {
    for (Eigen::Index j = 0; j < i; ++j) upper(i, j) = 0;
  }
  return upper;
}

}  // namespace

FactoredMatrix::FactoredMatrix(Eigen::MatrixXd a, Eigen::MatrixXd b)
    : a_(std::move(a)), b_(std::move(b)) {
  RESIDUAL_CHECK_EQ(a_.cols(), b_.rows()) << "the inner sizes of a factored matrix";
}

double FactoredMatrix::Norm() const {
  const Eigen::MatrixXd gram_a = a_.transpose() * a_, gram_b = b_ * b_.transpose();
  return std::sqrt(std::max(0.0, gram_a.cwiseProduct(gram_b.transpose()).sum()));
}

std::vector<std::complex<double>> FactoredMatrix::Eigenvalues() const {
  RESIDUAL_CHECK_EQ(a_.rows(), b_.cols()) << "eigenvalues need a square matrix";
  if (a_.cols() == 0) return {};
  const Eigen::MatrixXd small = b_ * a_;
  const Eigen::VectorXcd values = small.eigenvalues();
  std::vector<std::complex<double>> result(values.data(), values.data() + values.size());
  std::stable_sort(result.begin(), result.end(),
                   [](auto x, auto y) { return std::abs(x) > std::abs(y); });
  return result;
}

std::vector<double> FactoredMatrix::SingularValues() const {
  const Eigen::Index r = a_.cols();
  if (r == 0 || a_.rows() == 0 || b_.cols() == 0) return std::vector<double>(r, 0.0);
  // A B = Qa Ra Rb^T Qb^T with orthonormal Qa, Qb.
  const Eigen::MatrixXd middle = UpperTriangle(a_) * UpperTriangle(b_.transpose()).transpose();
  const Eigen::VectorXd values = Eigen::JacobiSVD<Eigen::MatrixXd>(middle).singularValues();
  std::vector<double> result(r, 0.0);
  std::copy(values.data(), values.data() + values.size(), result.begin());
  return result;
}

double Composition(const FactoredMatrix& left, const FactoredMatrix& right) {
  const double norms = left.Norm() * right.Norm();
  if (norms == 0) return 0;
  return FactoredMatrix(left.A() * (left.B() * right.A()), right.B()).Norm() / norms;
}

double CopyingScore(const FactoredMatrix& matrix) { return CopyingScore(matrix.Eigenvalues()); }

double CopyingScore(const std::vector<std::complex<double>>& eigenvalues) {
  double real = 0, magnitude = 0;
  for (const std::complex<double>& value : eigenvalues) {
    real += value.real();
    magnitude += std::abs(value);
  }
  return magnitude == 0 ? 0 : real / magnitude;
}

}  // namespace residual
