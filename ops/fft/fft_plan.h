// How a Fourier transform is cut into stages, and the roots of unity it needs. Private to the
// folder; fft-inl.h runs the stages.
//
//   X_k = sum_j x_j w^(jk),  w = e^(-2 pi i / n)
//
// A stage of radix r takes each of its blocks, of r m elements, to r blocks of m (decimation in
// frequency): element j of block p is sum_k x_(j + k m) w_r^(kp), times w_(rm)^(jp). So the result
// is in another order than the frequencies', that of their digits reversed. The inverse takes the
// stages back, from that order. A convolution multiplies in between and needs no order at all.

#ifndef RESIDUAL_OPS_FFT_FFT_PLAN_H_
#define RESIDUAL_OPS_FFT_FFT_PLAN_H_

#include <algorithm>
#include <complex>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace residual {
namespace fft_internal {

// e^(-2 pi i k / n), to the last bit or two of double.
std::complex<double> RootOfUnity(int64_t k, int64_t n);

template <class T>
struct Stage {
  int radix;    // 2, 3, 4, 5 or 8
  int64_t sub;  // elements of a block after it
  // For j < sub, for 0 < p < radix: w^(jp), real part and imaginary part. Empty if sub is 1.
  std::vector<T> twiddles;
};

template <class T>
struct Plan {
  int64_t n;
  std::vector<Stage<T>> stages;
};

// n: a product of twos, threes and fives.
template <class T>
Plan<T> MakePlan(int64_t n);
bool IsSmooth(int64_t n);

// Where each frequency is after the stages.
template <class T>
std::vector<int64_t> PositionsOf(const Plan<T>& plan);

// A transform of any length, in natural order on both sides or by `position`.
template <class T>
struct AnyPlan {
  explicit AnyPlan(int64_t length);

  int64_t n;
  // Of length n; or, if n has another prime factor, of the convolution that stands for it
  // (Bluestein 1970): with c_j = e^(-pi i j^2 / n),  X_k = c_k sum_j (x_j c_j) conj(c)_(k - j).
  Plan<T> plan;
  std::vector<int64_t> position;  // of frequency k; with a chirp, k itself
  std::vector<std::complex<T>> chirp;
  // The transform of conj(c) / plan.n, in the order the stages leave.
  std::vector<std::complex<T>> chirp_spectrum;

  bool uses_chirp() const { return !chirp.empty(); }
};

// Real signals of length n. For even n the even and the odd elements are the two parts of a complex
// signal half as long.
template <class T>
struct RealPlan {
  explicit RealPlan(int64_t length)
      : n(length), half(length % 2 == 0), complex(half ? length / 2 : length) {
    for (int64_t k = 0; half && k <= n / 2; ++k) roots.emplace_back(RootOfUnity(k, n));
  }

  int64_t n;
  bool half;
  AnyPlan<T> complex;
  std::vector<std::complex<T>> roots;  // w^k, k <= n / 2; empty for odd n
};

// Convolutions that reach over up to n elements: polynomials modulo x^n + i, whose values at its
// roots are the transform of coefficient t times the t-th root of -i.
template <class T>
struct ConvPlan {
  // n elements or more.
  explicit ConvPlan(int64_t length);

  Plan<T> plan;          // two stages or more, of which the last has radix 4 or 8
  std::vector<T> twist;  // e^(-pi i t / (2 n)): real part, imaginary part
};

// A plan made before, or a new one. Of each kind those used last are kept, for all threads.
template <class P>
std::shared_ptr<const P> PlanFor(int64_t n) {
  constexpr size_t kKept = 16;
  struct Kept {
    std::shared_ptr<const P> plan;
    int64_t used = 0;
  };
  static auto* const mutex = new std::mutex;
  static auto* const plans = new std::map<int64_t, Kept>;
  static int64_t uses = 0;
  const std::lock_guard<std::mutex> lock(*mutex);
  Kept& kept = (*plans)[n];
  if (!kept.plan) kept.plan = std::make_shared<const P>(n);
  kept.used = ++uses;
  const std::shared_ptr<const P> plan = kept.plan;
  if (plans->size() > kKept) {
    plans->erase(std::min_element(plans->begin(), plans->end(), [](const auto& a, const auto& b) {
      return a.second.used < b.second.used;
    }));
  }
  return plan;
}

}  // namespace fft_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_FFT_FFT_PLAN_H_
