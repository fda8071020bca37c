#include "interp/circuits/factored_matrix.h"

#include <cmath>

#include "Eigen/Eigenvalues"
#include "Eigen/SVD"
#include "gtest/gtest.h"

namespace residual {
namespace {

FactoredMatrix Random(int m, int r, int n, unsigned seed) {
  std::srand(seed);
  Eigen::MatrixXd a = Eigen::MatrixXd::Random(m, r), b = Eigen::MatrixXd::Random(r, n);
  return {a, b};
}

TEST(FactoredMatrixTest, AgreesWithTheDenseMatrix) {
  struct Sizes {
    int m, r, n;
  };
  for (const Sizes& s : {Sizes{5, 3, 7}, Sizes{1, 1, 1}, Sizes{13, 4, 13}, Sizes{3, 5, 4}}) {
    const FactoredMatrix f = Random(s.m, s.r, s.n, 7);
    const Eigen::MatrixXd dense = f.A() * f.B();
    EXPECT_NEAR(f.Norm(), dense.norm(), 1e-12 * dense.norm());
    const Eigen::VectorXd want = Eigen::JacobiSVD<Eigen::MatrixXd>(dense).singularValues();
    const std::vector<double> got = f.SingularValues();
    ASSERT_EQ(got.size(), s.r);
    for (int i = 0; i < s.r; ++i) EXPECT_NEAR(got[i], i < want.size() ? want[i] : 0, 1e-12);
  }
}

TEST(FactoredMatrixTest, EigenvaluesAreThoseOfTheDenseMatrix) {
  const FactoredMatrix f = Random(11, 4, 11, 3);
  const Eigen::MatrixXd dense = f.A() * f.B();
  const auto values = f.Eigenvalues();
  ASSERT_EQ(values.size(), 4);
  std::complex<double> sum = 0;
  for (const auto& value : values) {
    sum += value;
    // lambda is an eigenvalue: dense - lambda I is singular.
    const Eigen::MatrixXcd shifted =
        dense.cast<std::complex<double>>() - value * Eigen::MatrixXcd::Identity(11, 11);
    EXPECT_LT(Eigen::JacobiSVD<Eigen::MatrixXcd>(shifted).singularValues()[10], 1e-12);
  }
  EXPECT_NEAR(sum.real(), dense.trace(), 1e-12);
}

// The figure of the paper was wrong because a library took ||A B|| for ||B A||.
TEST(FactoredMatrixTest, TheNormIsNotCyclic) {
  const FactoredMatrix f = Random(9, 3, 9, 5);
  const FactoredMatrix swapped(f.B(), f.A());
  EXPECT_NEAR(f.Norm(), (f.A() * f.B()).norm(), 1e-12);
  EXPECT_GT(std::abs(f.Norm() - (f.B() * f.A()).norm()), 0.1);
}

TEST(FactoredMatrixTest, CompositionOfStrangersIsOneOverTheRootOfTheWidth) {
  const int d = 64, r = 8;
  double squares = 0;
  for (unsigned seed = 0; seed < 50; ++seed) {
    const double c = Composition(Random(d, r, d, 2 * seed + 100), Random(d, r, d, 2 * seed + 101));
    squares += c * c;
  }
  EXPECT_NEAR(squares / 50 * d, 1, 0.1);
  const FactoredMatrix f = Random(d, r, d, 1);
  EXPECT_LE(Composition(f, f), 1);
  EXPECT_EQ(Composition(f, FactoredMatrix(Eigen::MatrixXd::Zero(d, r), f.B())), 0);
}

TEST(FactoredMatrixTest, CopyingScoreOfCopyingAndItsOpposite) {
  const Eigen::MatrixXd a = Eigen::MatrixXd::Identity(6, 3);
  EXPECT_NEAR(CopyingScore({a, a.transpose()}), 1, 1e-12);
  EXPECT_NEAR(CopyingScore({a, -a.transpose()}), -1, 1e-12);
  Eigen::MatrixXd rotation(2, 2);
  rotation << 0, -1, 1, 0;  // eigenvalues +-i
  EXPECT_NEAR(CopyingScore({rotation, Eigen::MatrixXd::Identity(2, 2)}), 0, 1e-12);
  EXPECT_EQ(CopyingScore({Eigen::MatrixXd::Zero(4, 2), Eigen::MatrixXd::Zero(2, 4)}), 0);
}

TEST(FactoredMatrixTest, RootsKeepNorms) {
  for (const int r : {0, 1, 3, 9}) {
    std::srand(r);
    const RowMatrix a = Eigen::MatrixXd::Random(5, r);  // of rank 5 at most
    const RowMatrix gram = a.transpose() * a, root = Root(gram);
    EXPECT_LT((root.transpose() * root - gram).norm(), 1e-13 * (1 + gram.norm())) << r;
  }
}

TEST(FactoredMatrixTest, ProductsAreEigens) {
  std::srand(1);
  const RowMatrix a = Eigen::MatrixXd::Random(3, 5), b = Eigen::MatrixXd::Random(5, 2);
  EXPECT_LT((Product(a, b) - a * b).norm(), 1e-14);
  EXPECT_LT((Product(a.transpose(), b, true) - a * b).norm(), 1e-14);
  EXPECT_LT((Product(a, b.transpose(), false, true) - a * b).norm(), 1e-14);
  EXPECT_EQ(Product(RowMatrix(2, 0), RowMatrix(0, 3)), RowMatrix::Zero(2, 3));
}

}  // namespace
}  // namespace residual
