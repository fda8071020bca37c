#include "models/s4/hippo.h"

#include <cmath>
#include <complex>

#include "Eigen/Dense"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "models/s4/hippo_memory.h"
#include "tensor/io/safetensors.h"

namespace residual {
namespace {

using Complex = std::complex<double>;
constexpr HippoMeasure kWithBasis[] = {HippoMeasure::kLegS, HippoMeasure::kLegT,
                                       HippoMeasure::kFourier, HippoMeasure::kChebyshev};

Tensor Golden(const std::string& file, const std::string& name) {
  const auto opened = SafetensorsFile::Open("models/s4/testdata/" + file + ".safetensors");
  const auto tensor = opened.value().Read(name);
  return tensor.value();
}

double MaxDifference(const Eigen::MatrixXd& got, const Tensor& want) {
  double worst = 0;
  EXPECT_EQ(got.size(), want.elements());
  for (int64_t i = 0; i < got.rows(); ++i) {
    for (int64_t k = 0; k < got.cols(); ++k) {
      worst = std::max(worst, std::abs(got(i, k) - want.data<double>()[i * got.cols() + k]));
    }
  }
  return worst;
}

TEST(HippoTest, MatricesAreThoseOfTheReference) {
  const std::pair<HippoMeasure, const char*> cases[] = {{HippoMeasure::kLegS, "legs"},
                                                        {HippoMeasure::kLegT, "legt"},
                                                        {HippoMeasure::kFourier, "fou"}};
  for (const auto& [measure, name] : cases) {
    const Hippo hippo = MakeHippo(measure, 8);
    EXPECT_LT(MaxDifference(hippo.A, Golden("expected", absl::StrCat(name, ".8.A"))), 1e-13)
        << name;
    EXPECT_LT(MaxDifference(hippo.B, Golden("expected", absl::StrCat(name, ".8.B"))), 1e-13)
        << name;
  }
}

TEST(HippoTest, OnlineLegSIsThatOfTheReference) {
  const Tensor signal = Golden("inputs", "signal");
  const int64_t length = signal.elements();
  for (const int64_t n : {8, 32, 64}) {
    const std::string name = absl::StrCat("online_legs.", n);
    HippoMemory memory(HippoMeasure::kLegS, n, HippoMemory::kWholePast);
    const Tensor states = Golden("expected", name + ".coefficients");
    int64_t row = 0;
    for (int64_t t = 1; t <= length; ++t) {
      memory.Step(signal.data<double>()[t - 1]);
      if (t == 1 || t == 2 || t == 500 || t == 1000) {
        EXPECT_LT(MaxDifference(memory.state(), states.Row(row++)), 1e-10) << n << " at " << t;
      }
    }
    Eigen::VectorXd recalled(length);
    for (int64_t j = 0; j < length; ++j) recalled[j] = memory.Recall(length - j - 0.5);
    EXPECT_LT(MaxDifference(recalled, Golden("expected", name + ".reconstruction")), 1e-10) << n;
  }
}

// The kernel e^(sA) B is what x remembers of an impulse s ago. Its projection on the basis must be
// what the state of the exact coefficients says: for a u in the span of the basis the coefficients
// come back.
TEST(HippoTest, ARememberedSignalComesBack) {
  for (const HippoMeasure measure : kWithBasis) {
    // Warped, the distant past oscillates fast.
    const int64_t n = measure == HippoMeasure::kLegS ? 64 : 16, window = 4000;
    HippoMemory memory(measure, n, window);
    // Smooth, periodic in the window and zero at its edges, where the tilted basis is infinite.
    const auto signal = [&](double t) { return std::pow(std::sin(M_PI * t / window), 4); };
    const int64_t end = 3 * window;
    for (int64_t t = 0; t < end; ++t) memory.Step(signal(t + 0.5));
    for (const double ago : {0.05, 0.3, 0.5, 0.8}) {
      EXPECT_NEAR(memory.Recall(ago * window), signal(end - ago * window), 0.02)
          << Name(measure) << " " << ago;
    }
    const bool forgets = measure != HippoMeasure::kLegS;
    EXPECT_EQ(memory.Recall(1.5 * window) == 0, forgets) << Name(measure);
    EXPECT_EQ(memory.Recall(end + 1.0), 0);
    EXPECT_EQ(memory.Recall(-1), 0);
  }
}

// kChebyshev and kLegT drop what leaves the window by the same polynomial: one is the other in
// another basis, so both have the same poles.
TEST(HippoTest, ChebyshevHasTheLegendrePolesInAnotherBasis) {
  for (const int64_t n : {1, 2, 5, 8}) {
    const Hippo one = MakeHippo(HippoMeasure::kLegT, n),
                two = MakeHippo(HippoMeasure::kChebyshev, n);
    // Characteristic polynomials at a few places.
    for (const double x : {-3.0, 0.5, 2.0}) {
      const Eigen::MatrixXd shift = x * n * Eigen::MatrixXd::Identity(n, n);
      const double want = (one.A - shift).determinant();
      EXPECT_NEAR((two.A - shift).determinant() / want, 1, 1e-9) << n;
    }
  }
}

// Its moments are integrals against T_n, by quadrature.
TEST(HippoTest, ChebyshevHoldsTheMoments) {
  const int64_t n = 12, window = 20000;
  HippoMemory memory(HippoMeasure::kChebyshev, n, window);
  const auto signal = [&](double t) { return std::cos(5 * t / window) + t / window; };
  Eigen::VectorXd want = Eigen::VectorXd::Zero(n);
  for (int64_t t = 0; t < 2 * window; ++t) {
    memory.Step(signal(t + 0.5));
    const double y = 1 - 2 * (2 * window - t - 0.5) / window;
    for (int64_t i = 0; i < n && t >= window; ++i) {
      want[i] +=
          (i == 0 ? 1 : std::sqrt(2.0)) * std::cos(i * std::acos(y)) * signal(t + 0.5) / window;
    }
  }
  EXPECT_LT((memory.state() - want).cwiseAbs().maxCoeff(), 1e-3);
}

TEST(HippoTest, NormalPlusLowRankIsTheMatrix) {
  for (const HippoMeasure measure :
       {HippoMeasure::kLegS, HippoMeasure::kLegT, HippoMeasure::kFourier}) {
    for (const int64_t n : {1, 2, 7, 16, 64}) {
      const Hippo hippo = MakeHippo(measure, n);
      const Nplr nplr = MakeNplr(measure, n);
      const Eigen::MatrixXcd diagonal = nplr.Lambda.asDiagonal();
      const Eigen::MatrixXcd A = nplr.V * (diagonal - nplr.P * nplr.P.adjoint()) * nplr.V.adjoint();
      const double scale = hippo.A.cwiseAbs().maxCoeff();
      EXPECT_LT((A - hippo.A.cast<Complex>()).cwiseAbs().maxCoeff(), 1e-12 * scale)
          << Name(measure) << n;
      EXPECT_LT((nplr.V * nplr.B - hippo.B.cast<Complex>()).cwiseAbs().maxCoeff(), 1e-12 * scale);
      if (n % 2 == 1) continue;
      const Nplr half = MakeNplrPairs(measure, n);
      ASSERT_EQ(half.Lambda.size(), n / 2);
      EXPECT_GE(half.Lambda.imag().minCoeff(), -1e-9);
      // A and B are twice the real part of what the half gives.
      const Eigen::MatrixXcd mean = half.Lambda.asDiagonal();
      const Eigen::MatrixXcd normal = half.V * mean * half.V.adjoint();
      const Eigen::MatrixXd P = 2 * (half.V * half.P).real();
      EXPECT_LT((2 * normal.real() - P * P.transpose() - hippo.A).cwiseAbs().maxCoeff(),
                1e-12 * scale)
          << Name(measure) << n;
      EXPECT_LT((2 * (half.V * half.B).real() - hippo.B).cwiseAbs().maxCoeff(), 1e-12 * scale);
    }
  }
}

TEST(HippoTest, DiagonalInits) {
  const auto at = [](DiagonalInit init, int i) { return MakeDiagonal(init, 8).A[i]; };
  EXPECT_EQ(at(DiagonalInit::kLin, 0), Complex(-0.5, 0));
  EXPECT_NEAR(at(DiagonalInit::kLin, 3).imag(), 3 * M_PI, 1e-14);
  EXPECT_NEAR(at(DiagonalInit::kInv, 0).imag(), 8 / M_PI * 7, 1e-13);
  EXPECT_NEAR(at(DiagonalInit::kInv, 3).imag(), 8 / M_PI * (8.0 / 7 - 1), 1e-14);
  EXPECT_NEAR(at(DiagonalInit::kQuad, 2).imag(), 25 / M_PI, 1e-14);
  EXPECT_EQ(at(DiagonalInit::kReal, 2), Complex(-3, 0));
  const DiagonalSystem legs = MakeDiagonal(DiagonalInit::kLegS, 8);
  const Nplr pairs = MakeNplrPairs(HippoMeasure::kLegS, 8);
  EXPECT_EQ(legs.A, pairs.Lambda);
  EXPECT_EQ(legs.B, pairs.B);
  const DiagonalSystem random = MakeDiagonal(DiagonalInit::kRandom, 8, 3);
  EXPECT_EQ(random.A, MakeDiagonal(DiagonalInit::kRandom, 8, 3).A);
  EXPECT_NE(random.A, MakeDiagonal(DiagonalInit::kRandom, 8, 4).A);
  EXPECT_EQ(random.B, Eigen::VectorXcd::Ones(4));
}

TEST(HippoTest, ARandomMemoryIsReadAsWellAsItCanBe) {
  HippoMemory memory(HippoMeasure::kRandom, 8, 100, 5);
  double error = 0, energy = 0;
  for (int t = 0; t < 100; ++t) memory.Step(std::cos(t / 40.0));
  for (int t = 0; t < 100; ++t) {
    error += std::pow(memory.Recall(99.5 - t) - std::cos(t / 40.0), 2);
    energy += std::pow(std::cos(t / 40.0), 2);
  }
  EXPECT_LT(error, 0.05 * energy);
  // Read with the dual basis, the state says what it says of what it says.
  HippoMemory again(HippoMeasure::kRandom, 8, 100, 5);
  for (int t = 0; t < 100; ++t) again.Step(memory.Recall(99.5 - t));
  EXPECT_LT((again.state() - memory.state()).norm(), 1e-6 * memory.state().norm());
}

TEST(HippoTest, UnknownNamesAreAnsweredWithTheKnown) {
  EXPECT_EQ(ParseHippoMeasure("fourier").value(), HippoMeasure::kFourier);
  EXPECT_EQ(ParseHippoMeasure("lagt").status().message(),
            "unknown measure 'lagt', expected one of legs, legt, fourier, chebyshev, random");
  EXPECT_EQ(ParseDiagonalInit("inv").value(), DiagonalInit::kInv);
  EXPECT_EQ(ParseDiagonalInit("").status().message(),
            "unknown init '', expected one of lin, inv, quad, real, legs, random");
}

TEST(HippoDeathTest, WhatCannotBe) {
  EXPECT_DEATH(MakeHippo(HippoMeasure::kLegS, 0), "n >= 1|0");
  EXPECT_DEATH(MakeNplr(HippoMeasure::kChebyshev, 4), "chebyshev is not normal plus low rank");
  EXPECT_DEATH(MakeNplrPairs(HippoMeasure::kLegS, 5), "5 is no number of conjugate pairs");
  EXPECT_DEATH(HippoMemory(HippoMeasure::kLegT, 4, HippoMemory::kWholePast),
               "legt cannot remember 0");
  EXPECT_DEATH(HippoBasis(HippoMeasure::kRandom, 4, 0.5), "a random system has no basis");
}

}  // namespace
}  // namespace residual
