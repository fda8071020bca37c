#include "ops/fft/real_fft.h"

#include <cmath>
#include <complex>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "ops/fft/fft_plan.h"
#include "tensor/base/parallel.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

// In more than double, so that its own errors do not count.
using Exact = long double;
using Spectrum = std::vector<std::complex<Exact>>;

// Lengths of all kinds of stages, with and without another prime factor, odd and even.
const std::vector<int64_t> kLengths = {1,   2,   3,   4,   5,   6,   7,   8,    9,    10,  11, 12,
                                       13,  15,  16,  17,  25,  32,  34,  64,   77,   96,  97, 100,
                                       120, 121, 128, 250, 257, 514, 784, 1000, 1021, 1024};

// e^(sign 2 pi i k / n) for all k.
Spectrum Roots(int64_t n, double sign) {
  Spectrum roots(n);
  for (int64_t k = 0; k < n; ++k) {
    const Exact angle =
        sign * 2 * std::acos(Exact{-1}) * static_cast<Exact>(k) / static_cast<Exact>(n);
    roots[k] = {std::cos(angle), std::sin(angle)};
  }
  return roots;
}

// The definitions.
template <class T>
Spectrum Reference(const T* x, int64_t n) {
  const Spectrum roots = Roots(n, -1);
  Spectrum spectrum(n / 2 + 1);
  for (int64_t k = 0; k <= n / 2; ++k) {
    for (int64_t j = 0; j < n; ++j) spectrum[k] += static_cast<Exact>(x[j]) * roots[j * k % n];
  }
  return spectrum;
}
template <class T>
std::vector<Exact> InverseReference(const std::complex<T>* spectrum, int64_t n) {
  const Spectrum roots = Roots(n, 1);
  std::vector<Exact> x(n);
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t k = 0; k < n; ++k) {
      std::complex<Exact> value(spectrum[k <= n / 2 ? k : n - k]);
      if (k == 0 || 2 * k == n) value = value.real();
      if (2 * k > n) value = std::conj(value);
      x[j] += (value * roots[j * k % n]).real() / static_cast<Exact>(n);
    }
  }
  return x;
}

// The largest difference over the root of the mean square of what is wanted.
template <class Got, class Want>
double Error(const Got* got, const std::vector<Want>& want) {
  Exact worst = 0, square = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    worst = std::max(worst, std::abs(Want(got[i]) - want[i]));
    square += std::norm(want[i]);
  }
  if (square > 0) worst /= std::sqrt(square / static_cast<Exact>(want.size()));
  return static_cast<double>(worst);
}

template <class T>
std::vector<T> Signals(int64_t n) {
  const std::vector<double> x = RandomNormal({n}, 7).ToDoubles();
  return std::vector<T>(x.begin(), x.end());
}

class RealFftTest : public EachTarget {
 protected:
  template <class T>
  void CheckAgainstTheDefinition() {
    constexpr double kEpsilon = std::numeric_limits<T>::epsilon();
    for (const int64_t n : kLengths) {
      // By chirp there are three transforms for one.
      const bool smooth = fft_internal::IsSmooth(n % 2 == 0 ? n / 2 : n);
      const double allowed = (smooth ? 8 : 16) * kEpsilon;
      for (const int64_t rows : {1, 3, 17}) {
        if (n > 300 && rows > 1) continue;
        const std::vector<T> x = Signals<T>(rows * n);
        const int64_t frequencies = n / 2 + 1;
        std::vector<std::complex<T>> spectra(rows * frequencies + 1, T{42});
        RealFft(x.data(), spectra.data(), rows, n);
        EXPECT_EQ(spectra.back(), std::complex<T>(42)) << n;
        std::vector<T> back(rows * n + 1, T{42});
        InverseRealFft(spectra.data(), back.data(), rows, n);
        EXPECT_EQ(back.back(), T{42}) << n;
        for (int64_t r = 0; r < rows; ++r) {
          const std::complex<T>* spectrum = spectra.data() + r * frequencies;
          EXPECT_LT(Error(spectrum, Reference(x.data() + r * n, n)), allowed) << rows << " x " << n;
          EXPECT_LT(Error(back.data() + r * n, InverseReference(spectrum, n)), allowed)
              << rows << " x " << n;
        }
      }
    }
  }
};
RESIDUAL_EACH_TARGET(RealFftTest);

TEST_P(RealFftTest, IsItsDefinitionInFloat) { CheckAgainstTheDefinition<float>(); }
TEST_P(RealFftTest, IsItsDefinitionInDouble) { CheckAgainstTheDefinition<double>(); }

// Long enough for the stages to go depth first.
TEST_P(RealFftTest, LongSignalsComeBack) {
  for (const int64_t n : {16384, 16381, 15000}) {
    const std::vector<float> x = Signals<float>(2 * n);
    std::vector<std::complex<float>> spectra(2 * (n / 2 + 1));
    std::vector<float> back(2 * n);
    RealFft(x.data(), spectra.data(), 2, n);
    InverseRealFft(spectra.data(), back.data(), 2, n);
    EXPECT_LT(Error(back.data(), std::vector<Exact>(x.begin(), x.end())), 2e-6) << n;
    // A few frequencies, for a transform that is wrong both ways comes back too.
    const Spectrum roots = Roots(n, -1);
    for (const int64_t k : {int64_t{0}, int64_t{1}, n / 3, n / 2}) {
      std::complex<Exact> want = 0;
      for (int64_t j = 0; j < n; ++j) want += static_cast<Exact>(x[j]) * roots[j * k % n];
      const double size = std::sqrt(static_cast<double>(n));
      EXPECT_LT(std::abs(std::complex<Exact>(spectra[k]) - want), 2e-6 * size) << n << ", " << k;
    }
  }
}

TEST_P(RealFftTest, PartsWithoutMeaningHaveNoEffect) {
  for (const int64_t n : {6, 7, 14}) {
    std::vector<std::complex<float>> spectrum(n / 2 + 1, {1, 2});
    std::vector<float> x(n), same(n);
    InverseRealFft(spectrum.data(), x.data(), 1, n);
    spectrum[0] = {1, -7};
    if (n % 2 == 0) spectrum[n / 2] = {1, 9};
    InverseRealFft(spectrum.data(), same.data(), 1, n);
    EXPECT_EQ(x, same) << n;
  }
}

TEST_P(RealFftTest, ARowHasTheSameBitsAloneAndOnAnyNumberOfThreads) {
  constexpr int64_t kRows = 37;
  for (const int64_t n : {60, 101}) {
    std::vector<float> x = Signals<float>(kRows * n);
    x[5 * n] = std::numeric_limits<float>::infinity();  // which stays in its row
    const int64_t frequencies = n / 2 + 1;
    std::vector<std::complex<float>> one(kRows * frequencies), many(one), alone(frequencies);
    const int threads = NumThreads();
    SetNumThreads(1);
    RealFft(x.data(), one.data(), kRows, n);
    SetNumThreads(3);
    RealFft(x.data(), many.data(), kRows, n);
    SetNumThreads(threads);
    for (int64_t r = 0; r < kRows; ++r) {
      if (r == 5) continue;
      RealFft(x.data() + r * n, alone.data(), 1, n);
      for (int64_t k = 0; k < frequencies; ++k) {
        EXPECT_EQ(one[r * frequencies + k], many[r * frequencies + k]) << r << ", " << k;
        EXPECT_EQ(one[r * frequencies + k], alone[k]) << r << ", " << k;
      }
    }
  }
}

TEST(RealFftRowsTest, NoRowsAreNothing) {
  RealFft<float>(nullptr, nullptr, 0, 5);
  InverseRealFft<double>(nullptr, nullptr, 0, 5);
}

TEST(RealFftDeathTest, SaysWhatHasNoTransform) {
  EXPECT_DEATH(RealFft<float>(nullptr, nullptr, 3, 0), "real FFT of 3 rows of 0 elements");
}

TEST(RootOfUnityTest, IsExactOnTheAxesAndSymmetric) {
  using fft_internal::RootOfUnity;
  EXPECT_EQ(RootOfUnity(0, 12), std::complex<double>(1, 0));
  EXPECT_EQ(RootOfUnity(3, 12), std::complex<double>(0, -1));
  EXPECT_EQ(RootOfUnity(6, 12), std::complex<double>(-1, 0));
  EXPECT_EQ(RootOfUnity(9, 12), std::complex<double>(0, 1));
  for (int64_t k = -40; k < 80; ++k) {
    const double angle = -2 * std::acos(-1.0) * static_cast<double>(k) / 40;
    EXPECT_NEAR(RootOfUnity(k, 40).real(), std::cos(angle), 2e-15) << k;
    EXPECT_NEAR(RootOfUnity(k, 40).imag(), std::sin(angle), 2e-15) << k;
  }
}

}  // namespace
}  // namespace residual
