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

// As tensors lie.
using RowMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// op(a) op(b) by ops/matmul: several times as fast as Eigen's own product, which knows no AVX
// unless everything is compiled for it.
RowMatrix Product(const RowMatrix& a, const RowMatrix& b, bool transpose_a = false,
                  bool transpose_b = false);

class FactoredMatrix {
 public:
  // A: [m, r], B: [r, n].
  FactoredMatrix(RowMatrix a, RowMatrix b);

  const RowMatrix& A() const { return a_; }
  const RowMatrix& B() const { return b_; }

  // M X and X M, factored; the inner dimension stays r.
  FactoredMatrix TimesRight(const RowMatrix& x) const { return {a_, Product(b_, x)}; }
  FactoredMatrix TimesLeft(const RowMatrix& x) const { return {Product(x, a_), b_}; }
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
  RowMatrix a_, b_;
};

// S [r, r] with S^T S = gram, which is symmetric and has no negative eigenvalue but for rounding:
// ||S X||_F = ||A X||_F for gram = A^T A, so that a tall factor can be made small where only norms
// are asked for.
RowMatrix Root(const RowMatrix& gram);

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
