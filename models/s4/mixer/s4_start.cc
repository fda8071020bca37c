#include "models/s4/mixer/s4_start.h"

#include <algorithm>
#include <cmath>
#include <complex>

#include "Eigen/Eigenvalues"
#include "Eigen/LU"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "models/s4/hippo.h"
#include "tensor/base/check.h"
#include "tensor/base/random.h"

namespace residual {
namespace {

using Complex = std::complex<double>;

constexpr double kLeastRate = 1e-4;

struct Entry {
  const char* name;
  S4Init init;
};
constexpr Entry kInits[] = {
    {"legs", S4Init::kLegS}, {"legt", S4Init::kLegT},     {"fourier", S4Init::kFourier},
    {"lin", S4Init::kLin},   {"inv", S4Init::kInv},       {"quad", S4Init::kQuad},
    {"real", S4Init::kReal}, {"random", S4Init::kRandom}, {"random_lin", S4Init::kRandomLin}};

// CN(0, 1), two of the stream's numbers each.
Complex Gaussian(const Philox& random, uint64_t index) {
  return Complex(random.Normal(2 * index), random.Normal(2 * index + 1)) / std::sqrt(2.0);
}

HippoMeasure MeasureOf(S4Init init) {
  if (init == S4Init::kLegT) return HippoMeasure::kLegT;
  return init == S4Init::kFourier ? HippoMeasure::kFourier : HippoMeasure::kLegS;
}

DiagonalInit DiagonalOf(S4Init init) {
  switch (init) {
    case S4Init::kLin:
      return DiagonalInit::kLin;
    case S4Init::kInv:
      return DiagonalInit::kInv;
    case S4Init::kQuad:
      return DiagonalInit::kQuad;
    case S4Init::kReal:
      return DiagonalInit::kReal;
    case S4Init::kRandomLin:
      return DiagonalInit::kRandom;
    default:
      return DiagonalInit::kLegS;
  }
}

S4Start RandomMatrix(S4Kind kind, int64_t modes, const Philox& random) {
  Eigen::MatrixXcd A(modes, modes);
  Eigen::VectorXcd B(modes);
  uint64_t next = 0;
  for (int64_t i = 0; i < modes * modes; ++i) {
    A.data()[i] = Gaussian(random, next++) / std::sqrt(static_cast<double>(modes));
  }
  A -= 1.5 * Eigen::MatrixXcd::Identity(modes, modes);
  for (int64_t i = 0; i < modes; ++i) B[i] = Gaussian(random, next++);
  const Eigen::ComplexEigenSolver<Eigen::MatrixXcd> solver(A);
  RESIDUAL_CHECK(solver.info() == Eigen::Success);
  S4Start start{solver.eigenvalues(), Eigen::MatrixXcd(modes, kind == S4Kind::kS4 ? 1 : 0),
                solver.eigenvectors().partialPivLu().solve(B)};
  for (int64_t i = 0; i < start.P.size(); ++i) start.P.data()[i] = Gaussian(random, next++);
  return start;
}

}  // namespace

absl::StatusOr<S4Init> ParseS4Init(absl::string_view name) {
  for (const Entry& entry : kInits) {
    if (name == entry.name) return entry.init;
  }
  return absl::InvalidArgumentError(absl::StrCat("unknown init '", name, "', expected one of ",
                                                 absl::StrJoin(S4InitNames(), ", ")));
}

const char* S4InitName(S4Init init) {
  for (const Entry& entry : kInits) {
    if (init == entry.init) return entry.name;
  }
  return "";
}

std::vector<std::string> S4InitNames() {
  std::vector<std::string> names;
  for (const Entry& entry : kInits) names.push_back(entry.name);
  return names;
}

bool StartsFrom(S4Kind kind, S4Init init) {
  if (init == S4Init::kLegS || init == S4Init::kRandom) return true;
  const bool whole = init == S4Init::kLegT || init == S4Init::kFourier;
  return whole == (kind == S4Kind::kS4);
}

int64_t S4Rank(S4Kind kind, S4Init init) {
  if (kind != S4Kind::kS4) return 0;
  return init == S4Init::kLegT ? 2 : 1;
}

S4Start MakeS4Start(S4Kind kind, S4Init init, int64_t n, uint64_t seed, int layer) {
  RESIDUAL_CHECK(n >= 2 && n % 2 == 0) << n << " is no number of conjugate pairs";
  RESIDUAL_CHECK(StartsFrom(kind, init)) << S4InitName(init);
  S4Start start;
  if (init == S4Init::kRandom) {
    start = RandomMatrix(kind, n / 2, Philox(seed, RandomStream("s4.matrix", layer)));
  } else if (kind == S4Kind::kS4) {
    const Nplr pairs = MakeNplrPairs(MeasureOf(init), n);
    start = {pairs.Lambda, pairs.P, pairs.B};
  } else {
    const DiagonalSystem system =
        MakeDiagonal(DiagonalOf(init), n, seed ^ RandomStream("s4.frequencies", layer));
    start = {system.A, Eigen::MatrixXcd(n / 2, 0), system.B};
  }
  for (Complex& a : start.A) a.real(std::min(a.real(), -kLeastRate));
  return start;
}

std::vector<double> S4Steps(int64_t channels, double low, double high, uint64_t seed, int layer) {
  const Philox random(seed, RandomStream("s4.steps", layer));
  std::vector<double> steps(channels);
  for (int64_t h = 0; h < channels; ++h) {
    steps[h] = low * std::pow(high / low, random.UniformDouble(h));
  }
  return steps;
}

Tensor S4Output(int64_t channels, int64_t modes, uint64_t seed, uint64_t stream) {
  const Philox random(seed, stream);
  Tensor C = Tensor::Uninitialized({channels, modes, 2}, kF64);
  for (int64_t i = 0; i < C.elements(); ++i) {
    C.mutable_data<double>()[i] = random.Normal(i) * std::sqrt(0.5);
  }
  return C;
}

}  // namespace residual
