#include "ops/fft/real_fft.h"

#include <algorithm>
#include <memory>

#include "ops/fft/real_fft_kernels.h"
#include "tensor/base/check.h"
#include "tensor/base/parallel.h"
#include "tensor/core/storage.h"

namespace residual {
namespace {

using fft_internal::kRows;
using fft_internal::RealPlan;

// f(plan, first row, count of rows, scratch).
template <class T, class F>
void ForRows(int64_t rows, int64_t n, F f) {
  RESIDUAL_CHECK(rows >= 0 && n >= 1)
      << "a real FFT of " << rows << " rows of " << n << " elements";
  if (rows == 0) return;
  const std::shared_ptr<const RealPlan<T>> plan = fft_internal::PlanFor<RealPlan<T>>(n);
  ParallelFor(rows, kRows, [&](int64_t begin, int64_t end) {
    const StorageRef scratch = AllocateHost(plan->complex.plan.n * 2 * kRows * sizeof(T));
    f(*plan, begin, end - begin, static_cast<T*>(scratch->data()));
  });
}

}  // namespace

template <class T>
void RealFft(const T* signals, std::complex<T>* spectra, int64_t rows, int64_t n) {
  ForRows<T>(rows, n, [&](const RealPlan<T>& plan, int64_t row, int64_t count, T* scratch) {
    RealForward(plan, signals + row * n, spectra + row * (n / 2 + 1), count, scratch);
  });
}
template void RealFft(const float*, std::complex<float>*, int64_t, int64_t);
template void RealFft(const double*, std::complex<double>*, int64_t, int64_t);

template <class T>
void InverseRealFft(const std::complex<T>* spectra, T* signals, int64_t rows, int64_t n) {
  ForRows<T>(rows, n, [&](const RealPlan<T>& plan, int64_t row, int64_t count, T* scratch) {
    RealInverse(plan, spectra + row * (n / 2 + 1), signals + row * n, count, scratch);
  });
}
template void InverseRealFft(const std::complex<float>*, float*, int64_t, int64_t);
template void InverseRealFft(const std::complex<double>*, double*, int64_t, int64_t);

}  // namespace residual
