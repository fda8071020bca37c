#include "interp/circuits/factored_matrix.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "Eigen/Cholesky"
#include "Eigen/Eigenvalues"
#include "Eigen/QR"
#include "Eigen/SVD"
#include "ops/matmul/matmul.h"
#include "tensor/base/check.h"
#include "tensor/core/tensor.h"

namespace residual {
namespace {

// The r x r (or smaller) upper triangle R of x = Q R.
RowMatrix UpperTriangle(const Eigen::MatrixXd& x) {
  const Eigen::Index r = std::min(x.rows(), x.cols());
  const Eigen::HouseholderQR<Eigen::MatrixXd> qr(x);
  RowMatrix upper = qr.matrixQR().topRows(r);
  for (Eigen::Index i = 0; i < r; ++i) {
    for (Eigen::Index j = 0; j < i; ++j) upper(i, j) = 0;
  }
  return upper;
}

// The matrix's own memory as a tensor, while it lives.
Tensor View(const RowMatrix& x) {
  return Tensor::Wrap(x.data(), {x.rows(), x.cols()}, kF64, [] {});
}

}  // namespace

RowMatrix Product(const RowMatrix& a, const RowMatrix& b, bool transpose_a, bool transpose_b) {
  MatMulOptions options;
  options.transpose_a = transpose_a;
  options.transpose_b = transpose_b;
  const Tensor product = MatMul(View(a), View(b), options);
  return Eigen::Map<const RowMatrix>(product.data<double>(), product.dim(0), product.dim(1));
}

RowMatrix Root(const RowMatrix& gram) {
  // gram = P^T L D L^T P; pivoting keeps a gram of lower rank from failing.
  const Eigen::LDLT<Eigen::MatrixXd> ldlt(gram);
  const Eigen::VectorXd roots = ldlt.vectorD().cwiseMax(0).cwiseSqrt();
  Eigen::MatrixXd root = Eigen::MatrixXd::Identity(gram.rows(), gram.cols());
  root = ldlt.transpositionsP() * root;
  root = ldlt.matrixU() * root;
  return roots.asDiagonal() * root;
}

FactoredMatrix::FactoredMatrix(RowMatrix a, RowMatrix b) : a_(std::move(a)), b_(std::move(b)) {
  RESIDUAL_CHECK_EQ(a_.cols(), b_.rows()) << "the inner sizes of a factored matrix";
}

double FactoredMatrix::Norm() const {
  const RowMatrix gram_a = Product(a_, a_, true), gram_b = Product(b_, b_, false, true);
  return std::sqrt(std::max(0.0, gram_a.cwiseProduct(gram_b.transpose()).sum()));
}

std::vector<std::complex<double>> FactoredMatrix::Eigenvalues() const {
  RESIDUAL_CHECK_EQ(a_.rows(), b_.cols()) << "eigenvalues need a square matrix";
  if (a_.cols() == 0) return {};
  const Eigen::MatrixXd small = Product(b_, a_);
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
  const Eigen::MatrixXd middle =
      Product(UpperTriangle(a_), UpperTriangle(b_.transpose()), false, true);
  const Eigen::VectorXd values = Eigen::BDCSVD<Eigen::MatrixXd>(middle).singularValues();
  std::vector<double> result(r, 0.0);
  std::copy(values.data(), values.data() + values.size(), result.begin());
  return result;
}

double Composition(const FactoredMatrix& left, const FactoredMatrix& right) {
  const double norms = left.Norm() * right.Norm();
  if (norms == 0) return 0;
  const RowMatrix between = Product(left.B(), right.A());
  return FactoredMatrix(Product(left.A(), between), right.B()).Norm() / norms;
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
