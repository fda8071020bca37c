#include "ops/fft/fft_plan.h"

#include <cmath>

#include "tensor/base/check.h"

namespace residual {
namespace fft_internal {
namespace {

// Radices of the stages, from the first: threes and fives, then eights, of which two fours take the
// place of one where a two would be left. A stage reads and writes everything once, so few and wide
// ones are wanted; 16 would not fit in the registers.
std::vector<int> RadicesOf(int64_t n) {
  std::vector<int> radices;
  for (const int odd : {5, 3}) {
    for (; n % odd == 0; n /= odd) radices.push_back(odd);
  }
  int twos = 0;
  for (; n % 2 == 0; n /= 2) ++twos;
  RESIDUAL_CHECK_EQ(n, 1);
  const int fours = twos % 3 == 2 ? 1 : twos % 3 == 1 && twos > 1 ? 2 : 0;
  radices.insert(radices.end(), (twos - 2 * fours) / 3, 8);
  radices.insert(radices.end(), fours, 4);
  if (twos == 1) radices.push_back(2);
  return radices;
}

// The stages on one signal, plainly.
void Transform(const Plan<double>& plan, size_t first, std::complex<double>* x) {
  if (first == plan.stages.size()) return;
  const Stage<double>& stage = plan.stages[first];
  const int r = stage.radix;
  const int64_t m = stage.sub;
  for (int64_t j = 0; j < m; ++j) {
    std::vector<std::complex<double>> sums(r);
    for (int p = 0; p < r; ++p) {
      for (int k = 0; k < r; ++k) sums[p] += x[j + k * m] * RootOfUnity(k * p, r);
    }
    for (int p = 0; p < r; ++p) x[j + p * m] = sums[p] * RootOfUnity(j * p, r * m);
  }
  for (int p = 0; p < r; ++p) Transform(plan, first + 1, x + p * m);
}

int64_t Smooth(int64_t n, int64_t factor) {  // the smallest multiple of `factor` from n on
  n = (n + factor - 1) / factor * factor;
  while (!IsSmooth(n)) n += factor;
  return n;
}

}  // namespace

std::complex<double> RootOfUnity(int64_t k, int64_t n) {
  // By symmetry from an eighth of the circle, where arguments are small and exact.
  constexpr double kPi = 3.14159265358979323846;
  k %= n;
  if (k < 0) k += n;
  if (2 * k > n) return std::conj(RootOfUnity(n - k, n));
  if (4 * k > n) {
    const std::complex<double> mirrored = RootOfUnity(n - 2 * k, 2 * n);
    return {-mirrored.real(), mirrored.imag()};
  }
  if (8 * k > n) {
    const std::complex<double> mirrored = RootOfUnity(n - 4 * k, 4 * n);
    return {-mirrored.imag(), -mirrored.real()};
  }
  const double angle = 2 * kPi * static_cast<double>(k) / static_cast<double>(n);
  return {std::cos(angle), -std::sin(angle)};
}

bool IsSmooth(int64_t n) {
  for (const int factor : {2, 3, 5}) {
    while (n % factor == 0) n /= factor;
  }
  return n == 1;
}

template <class T>
Plan<T> MakePlan(int64_t n) {
  Plan<T> plan{n, {}};
  for (const int r : RadicesOf(n)) {
    Stage<T> stage{r, n / r, {}};
    if (stage.sub > 1) stage.twiddles.reserve(stage.sub * (r - 1) * 2);
    for (int64_t j = 0; stage.sub > 1 && j < stage.sub; ++j) {
      for (int p = 1; p < r; ++p) {
        const std::complex<double> root = RootOfUnity(j * p, n);
        stage.twiddles.push_back(static_cast<T>(root.real()));
        stage.twiddles.push_back(static_cast<T>(root.imag()));
      }
    }
    n = stage.sub;
    plan.stages.push_back(std::move(stage));
  }
  return plan;
}
template Plan<float> MakePlan(int64_t n);
template Plan<double> MakePlan(int64_t n);

template <class T>
std::vector<int64_t> PositionsOf(const Plan<T>& plan) {
  // Frequency p + r k of a block is frequency k of its block p.
  std::vector<int64_t> positions(plan.n);
  for (int64_t frequency = 0; frequency < plan.n; ++frequency) {
    int64_t left = frequency, position = 0;
    for (const Stage<T>& stage : plan.stages) {
      position += left % stage.radix * stage.sub;
      left /= stage.radix;
    }
    positions[frequency] = position;
  }
  return positions;
}

template <class T>
AnyPlan<T>::AnyPlan(int64_t length)
    : n(length), plan(MakePlan<T>(IsSmooth(n) ? n : Smooth(2 * n - 1, 4))) {
  if (plan.n == n) {
    position = PositionsOf(plan);
    return;
  }
  std::vector<std::complex<double>> conjugate(plan.n);
  for (int64_t j = 0; j < n; ++j) {
    position.push_back(j);
    const std::complex<double> root = RootOfUnity(j * j % (2 * n), 2 * n);
    chirp.emplace_back(root);
    const std::complex<double> scaled = std::conj(root) / static_cast<double>(plan.n);
    conjugate[j] = scaled;
    if (j > 0) conjugate[plan.n - j] = scaled;
  }
  Transform(MakePlan<double>(plan.n), 0, conjugate.data());
  chirp_spectrum.assign(conjugate.begin(), conjugate.end());
}
template struct AnyPlan<float>;
template struct AnyPlan<double>;

template <class T>
ConvPlan<T>::ConvPlan(int64_t length)
    : plan(MakePlan<T>(Smooth(std::max<int64_t>(length, 16), 4))) {
  twist.reserve(2 * plan.n);
  for (int64_t t = 0; t < plan.n; ++t) {
    const std::complex<double> root = RootOfUnity(t, 4 * plan.n);
    twist.push_back(static_cast<T>(root.real()));
    twist.push_back(static_cast<T>(root.imag()));
  }
}
template struct ConvPlan<float>;
template struct ConvPlan<double>;

}  // namespace fft_internal
}  // namespace residual
