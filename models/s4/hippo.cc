#include "models/s4/hippo.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <utility>

#include "Eigen/Dense"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tensor/base/check.h"
#include "tensor/base/random.h"

namespace residual {
namespace {

using Complex = std::complex<double>;

constexpr double kPi = 3.14159265358979323846;

template <class Kind>
using Names = std::vector<std::pair<const char*, Kind>>;

const Names<HippoMeasure>& MeasureNames() {
  static const auto* names = new Names<HippoMeasure>{{"legs", HippoMeasure::kLegS},
                                                     {"legt", HippoMeasure::kLegT},
                                                     {"fourier", HippoMeasure::kFourier},
                                                     {"chebyshev", HippoMeasure::kChebyshev},
                                                     {"random", HippoMeasure::kRandom}};
  return *names;
}

const Names<DiagonalInit>& InitNames() {
  static const auto* names =
      new Names<DiagonalInit>{{"lin", DiagonalInit::kLin},   {"inv", DiagonalInit::kInv},
                              {"quad", DiagonalInit::kQuad}, {"real", DiagonalInit::kReal},
                              {"legs", DiagonalInit::kLegS}, {"random", DiagonalInit::kRandom}};
  return *names;
}

template <class Kind>
absl::StatusOr<Kind> Parse(const Names<Kind>& names, absl::string_view what,
                           absl::string_view name) {
  for (const auto& [known, kind] : names) {
    if (name == known) return kind;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "unknown ", what, " '", name, "', expected one of ",
      absl::StrJoin(names, ", ", [](std::string* out, const auto& n) { *out += n.first; })));
}

// sqrt(2n+1) P_n(y), n = 0 .. N-1.
Eigen::VectorXd Legendre(int64_t n, double y) {
  Eigen::VectorXd p(n);
  p[0] = 1;
  if (n > 1) p[1] = y;
  for (int64_t i = 2; i < n; ++i) p[i] = ((2 * i - 1) * y * p[i - 1] - (i - 1) * p[i - 2]) / i;
  for (int64_t i = 0; i < n; ++i) p[i] *= std::sqrt(2.0 * i + 1);
  return p;
}

// T_0 and sqrt 2 T_n at y = cos(angle).
Eigen::VectorXd Chebyshev(int64_t n, double angle) {
  Eigen::VectorXd t(n);
  for (int64_t i = 0; i < n; ++i) t[i] = i == 0 ? 1 : std::sqrt(2.0) * std::cos(i * angle);
  return t;
}

Hippo LegS(int64_t n) {
  Hippo hippo{Eigen::MatrixXd::Zero(n, n), Eigen::VectorXd(n)};
  for (int64_t i = 0; i < n; ++i) {
    hippo.B[i] = std::sqrt(2.0 * i + 1);
    for (int64_t k = 0; k < i; ++k) {
      hippo.A(i, k) = -std::sqrt((2.0 * i + 1) * (2.0 * k + 1));
    }
    hippo.A(i, i) = -(i + 1.0);
  }
  return hippo;
}

Hippo LegT(int64_t n) {
  Hippo hippo{Eigen::MatrixXd(n, n), Eigen::VectorXd(n)};
  for (int64_t i = 0; i < n; ++i) {
    hippo.B[i] = std::sqrt(2.0 * i + 1);
    for (int64_t k = 0; k < n; ++k) {
      const double sign = i < k && (k - i) % 2 == 1 ? -1 : 1;
      hippo.A(i, k) = -sign * std::sqrt((2.0 * i + 1) * (2.0 * k + 1));
    }
  }
  return hippo;
}

Hippo Fourier(int64_t n) {
  Hippo hippo{Eigen::MatrixXd::Zero(n, n), Eigen::VectorXd::Zero(n)};
  for (int64_t i = 0; i < n; i += 2) hippo.B[i] = i == 0 ? 1 : std::sqrt(2.0);
  for (int64_t i = 0; i + 1 < n; i += 2) {
    hippo.A(i + 1, i) = kPi * (i / 2);
    hippo.A(i, i + 1) = -kPi * (i / 2);
  }
  hippo.A -= hippo.B * hippo.B.transpose();
  return hippo;
}

// x_n' = T_n(1) u(t) - T_n(-1) u(t-1) - 2 integral of u T_n'. The last is 2 (D x)_n, T_n' = sum_k
// D_nk T_k; and u(t-1) = T(-1) . G^-1 x for the polynomial with the moments x, G the Gram matrix.
Hippo Chebyshev(int64_t n) {
  const auto norm = [](int64_t i) { return i == 0 ? 1 : std::sqrt(2.0); };
  const auto mean = [](int64_t i) { return i % 2 == 1 ? 0 : 1 / (1 - static_cast<double>(i * i)); };
  Eigen::MatrixXd D = Eigen::MatrixXd::Zero(n, n), G(n, n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t k = 0; k < n; ++k) {
      G(i, k) = norm(i) * norm(k) * (mean(i + k) + mean(std::abs(i - k))) / 2;
      if (k < i && (i - k) % 2 == 1) D(i, k) = k == 0 ? std::sqrt(2.0) * i : 2.0 * i;
    }
  }
  const Eigen::VectorXd left = residual::Chebyshev(n, kPi);
  Hippo hippo;
  hippo.A = -left * G.ldlt().solve(left).transpose() - 2 * D;
  hippo.B = residual::Chebyshev(n, 0);
  return hippo;
}

Hippo Random(int64_t n, uint64_t seed) {
  Hippo hippo{Eigen::MatrixXd(n, n), Eigen::VectorXd(n)};
  const Philox random(seed, RandomStream("hippo"));
  for (int64_t i = 0; i < n * n; ++i) hippo.A.data()[i] = random.Normal(i) / std::sqrt(n);
  for (int64_t i = 0; i < n; ++i) hippo.B[i] = random.Normal(n * n + i);
  hippo.A -= 1.5 * Eigen::MatrixXd::Identity(n, n);
  return hippo;
}

// The columns of P in the original basis: A + P P^T is -1/2 (kLegS) or 0 on the diagonal, skew
// beside it.
Eigen::MatrixXd LowRank(HippoMeasure measure, const Hippo& hippo) {
  const int64_t n = hippo.B.size();
  if (measure == HippoMeasure::kFourier) return hippo.B;
  if (measure == HippoMeasure::kLegS) {
    return (Eigen::ArrayXd::LinSpaced(n, 0, static_cast<double>(n - 1)) + 0.5).sqrt().matrix();
  }
  RESIDUAL_CHECK(measure == HippoMeasure::kLegT) << Name(measure) << " is not normal plus low rank";
  Eigen::MatrixXd P(n, 2);
  for (int64_t i = 0; i < n; ++i) {
    P(i, 0) = std::sqrt(i + 0.5);
    P(i, 1) = i % 2 == 0 ? P(i, 0) : -P(i, 0);
  }
  return P;
}

// The longest of some columns, of length 1; the others are made orthogonal to it.
Eigen::VectorXd TakeLongest(Eigen::MatrixXd& columns) {
  Eigen::Index longest;
  columns.colwise().squaredNorm().maxCoeff(&longest);
  const Eigen::VectorXd taken = columns.col(longest).normalized();
  columns -= taken * (taken.transpose() * columns);
  return taken;
}

}  // namespace

absl::StatusOr<HippoMeasure> ParseHippoMeasure(absl::string_view name) {
  return Parse(MeasureNames(), "measure", name);
}

const char* Name(HippoMeasure measure) {
  for (const auto& [name, kind] : MeasureNames()) {
    if (kind == measure) return name;
  }
  return "";
}

absl::StatusOr<DiagonalInit> ParseDiagonalInit(absl::string_view name) {
  return Parse(InitNames(), "init", name);
}

Hippo MakeHippo(HippoMeasure measure, int64_t n, uint64_t seed) {
  RESIDUAL_CHECK_GE(n, 1);
  switch (measure) {
    case HippoMeasure::kLegS:
      return LegS(n);
    case HippoMeasure::kLegT:
      return LegT(n);
    case HippoMeasure::kFourier:
      return Fourier(n);
    case HippoMeasure::kChebyshev:
      return Chebyshev(n);
    case HippoMeasure::kRandom:
      break;
  }
  return Random(n, seed);
}

double HippoWindow(HippoMeasure measure) { return measure == HippoMeasure::kFourier ? 2 : 1; }

Eigen::VectorXd HippoBasis(HippoMeasure measure, int64_t n, double s) {
  RESIDUAL_CHECK(measure != HippoMeasure::kRandom) << "a random system has no basis";
  RESIDUAL_CHECK_GE(n, 1);
  const bool window = measure != HippoMeasure::kLegS;
  if (s < 0 || (window && s > HippoWindow(measure))) return Eigen::VectorXd::Zero(n);
  if (!window) return Legendre(n, 2 * std::exp(-s) - 1);
  if (measure == HippoMeasure::kLegT) return Legendre(n, 1 - 2 * s);
  if (measure == HippoMeasure::kChebyshev) {
    const double y = 1 - 2 * s;
    return Chebyshev(n, std::acos(y)) * (2 / (kPi * std::sqrt(1 - y * y)));
  }
  Eigen::VectorXd phi(n);
  for (int64_t i = 0; i < n; ++i) {
    const double angle = kPi * (i / 2) * s;
    phi[i] = i == 0 ? 1 : std::sqrt(2.0) * (i % 2 == 0 ? std::cos(angle) : std::sin(angle));
  }
  return phi;
}

Nplr MakeNplr(HippoMeasure measure, int64_t n) {
  const Hippo hippo = MakeHippo(measure, n);
  const Eigen::MatrixXd P = LowRank(measure, hippo);
  const Eigen::MatrixXd normal = hippo.A + P * P.transpose();
  // A multiple of the identity plus a skew matrix; -i times that one is Hermitian, for which the
  // eigenvectors come out orthonormal.
  const Eigen::MatrixXd skew = (normal - normal.transpose()) / 2;
  const double shift = normal.diagonal().mean();
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXcd> solver(Complex(0, -1) *
                                                               skew.cast<Complex>());
  RESIDUAL_CHECK(solver.info() == Eigen::Success);
  Nplr nplr;
  nplr.V = solver.eigenvectors();
  nplr.Lambda = Complex(0, 1) * solver.eigenvalues().cast<Complex>();
  nplr.Lambda.array() += shift;
  nplr.P = nplr.V.adjoint() * P;
  nplr.B = nplr.V.adjoint() * hippo.B;
  return nplr;
}

Nplr MakeNplrPairs(HippoMeasure measure, int64_t n) {
  RESIDUAL_CHECK(n >= 2 && n % 2 == 0) << n << " is no number of conjugate pairs";
  const Nplr whole = MakeNplr(measure, n);
  const int64_t half = n / 2;
  Nplr pairs;
  pairs.Lambda = whole.Lambda.tail(half);
  pairs.V = whole.V.rightCols(half);
  // Rising order puts conjugates at both ends. Two zeros in the middle (kFourier) have a real plane
  // of eigenvectors, spanned by their real and imaginary parts: e and f give e + i f and its
  // conjugate.
  if (std::abs(whole.Lambda[half].imag()) < 1e-9) {
    Eigen::MatrixXd plane(n, 4);
    plane << whole.V.col(half - 1).real(), whole.V.col(half - 1).imag(), whole.V.col(half).real(),
        whole.V.col(half).imag();
    const Eigen::VectorXd e = TakeLongest(plane), f = TakeLongest(plane);
    pairs.V.col(0) = (e.cast<Complex>() + Complex(0, 1) * f.cast<Complex>()) / std::sqrt(2.0);
  }
  const Hippo hippo = MakeHippo(measure, n);
  pairs.P = pairs.V.adjoint() * LowRank(measure, hippo);
  pairs.B = pairs.V.adjoint() * hippo.B;
  return pairs;
}

DiagonalSystem MakeDiagonal(DiagonalInit init, int64_t n, uint64_t seed) {
  RESIDUAL_CHECK(n >= 2 && n % 2 == 0) << n << " is no number of conjugate pairs";
  const int64_t half = n / 2;
  DiagonalSystem system{Eigen::VectorXcd(half), Eigen::VectorXcd::Ones(half)};
  if (init == DiagonalInit::kLegS) {
    const Nplr pairs = MakeNplrPairs(HippoMeasure::kLegS, n);
    return {pairs.Lambda, pairs.B};
  }
  const Philox random(seed, RandomStream("diagonal"));
  for (int64_t i = 0; i < half; ++i) {
    const double x = static_cast<double>(i), size = static_cast<double>(n);
    switch (init) {
      case DiagonalInit::kLin:
        system.A[i] = {-0.5, kPi * x};
        break;
      case DiagonalInit::kInv:
        system.A[i] = {-0.5, size / kPi * (size / (2 * x + 1) - 1)};
        break;
      case DiagonalInit::kQuad:
        system.A[i] = {-0.5, (1 + 2 * x) * (1 + 2 * x) / kPi};
        break;
      case DiagonalInit::kReal:
        system.A[i] = -(x + 1);
        break;
      case DiagonalInit::kLegS:
        break;
      case DiagonalInit::kRandom:
        system.A[i] = {-0.5, kPi * size / 2 * random.UniformDouble(i)};
        break;
    }
  }
  return system;
}

}  // namespace residual
