// A low-rank matrix A B kept as its factors: the circuits of an attention head.
//
// A head's OV and QK circuits are [d_model, d_model] of rank d_head, and with embeddings
// [vocab, vocab]: never made. Everything below costs products of the small sides only.

#ifndef RESIDUAL_INTERP_CIRCUITS_FACTORED_MATRIX_H_
#define RESIDUAL_INTERP_CIRCUITS_FACTORED_MATRIX_H_

#include <complex>
#include <vector>

#include "Eigen/Core"

namespace residual {

class FactoredMatrix {
 public:
  // A: [m, r], B: [r, n].
  FactoredMatrix(Eigen::MatrixXd a, Eigen::MatrixXd b);

  const Eigen::MatrixXd& A() const { return a_; }
  const Eigen::MatrixXd& B() const { return b_; }

  // M X and X M, factored; the inner dimension stays r.
  FactoredMatrix TimesRight(const Eigen::MatrixXd& x) const { return {a_, b_ * x}; }
  FactoredMatrix TimesLeft(const Eigen::MatrixXd& x) const { return {x * a_, b_}; }
  FactoredMatrix Transposed() const { return {b_.transpose(), a_.transpose()}; }

  // ||A B||_F by Gram matrices: sqrt(tr(A^T A B B^T)). Not the norm of B A: the trace and the
  // eigenvalues are cyclic, a Frobenius norm is not (the erratum of "A Mathematical Framework").
  double Norm() const;

  // The r eigenvalues of A B that can differ from zero, those of B A; m must equal n. In order of
  // falling magnitude.
  std::vector<std::complex<double>> Eigenvalues() const;

  // The r singular values, falling: by QR of the factors and an r x r SVD.
  std::vector<double> SingularValues() const;

 private:
  Eigen::MatrixXd a_, b_;
};

// ||left right||_F / (||left||_F ||right||_F): how much one circuit reads of what the other wrote
// ("composition", Elhage et al. 2021). 0 if one of them is zero. For factors that know nothing of
// each other the expected square is 1 / d_model, whatever the ranks.
double Composition(const FactoredMatrix& left, const FactoredMatrix& right);

// sum Re(lambda) / sum |lambda| of the eigenvalues: 1 for a head that copies every token, -1 for
// one that lowers what it attends to. 0 if all are zero.
double CopyingScore(const FactoredMatrix& matrix);
double CopyingScore(const std::vector<std::complex<double>>& eigenvalues);

}  // namespace residual

#endif  // RESIDUAL_INTERP_CIRCUITS_FACTORED_MATRIX_H_
