// What the kernels of real_fft.h are given. Private to the folder.

#ifndef RESIDUAL_OPS_FFT_REAL_FFT_KERNELS_H_
#define RESIDUAL_OPS_FFT_REAL_FFT_KERNELS_H_

#include <complex>
#include <cstdint>

#include "ops/fft/fft_plan.h"

namespace residual {
namespace fft_internal {

// Rows of a task: as many as the widest vectors have lanes.
constexpr int64_t kRows = 16;

// `rows` rows, kRows at most. scratch: 2 kRows numbers for each element of plan.complex.plan,
// aligned for vectors.
void RealForward(const RealPlan<float>& plan, const float* signals, std::complex<float>* spectra,
                 int64_t rows, float* scratch);
void RealForward(const RealPlan<double>& plan, const double* signals, std::complex<double>* spectra,
                 int64_t rows, double* scratch);
void RealInverse(const RealPlan<float>& plan, const std::complex<float>* spectra, float* signals,
                 int64_t rows, float* scratch);
void RealInverse(const RealPlan<double>& plan, const std::complex<double>* spectra, double* signals,
                 int64_t rows, double* scratch);

}  // namespace fft_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_FFT_REAL_FFT_KERNELS_H_
