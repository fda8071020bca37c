// What the kernels of fft_conv.h are given. Private to the folder.

#ifndef RESIDUAL_OPS_FFT_FFT_CONV_KERNELS_H_
#define RESIDUAL_OPS_FFT_FFT_CONV_KERNELS_H_

#include <cstdint>

#include "ops/fft/fft_plan.h"
#include "tensor/core/dtype.h"

namespace residual {
namespace fft_internal {

constexpr int64_t kChannels = 16;  // of a task

// Rows [row_begin, row_end) of the batch, channels [begin, end), kChannels at most.
struct ConvPart {
  int64_t row_begin, row_end, begin, end;
};

// Null pointers: not there. T is what is computed in.
template <class T>
struct ConvFilter {
  const ConvPlan<T>* plan;
  int64_t length, channels;  // of the sequences
  int64_t taps;              // that are used: `length` at most
  int64_t row_taps;          // of a row of the kernels in memory
  const T* kernel;           // [channels, row_taps]
  const T* reverse;          // the same
  const T* D;                // [channels]
};

template <class Element>
struct ConvSignals {
  const Element* u;      // [batch, length, channels]
  const Element* added;  // the same
  Element* y;            // the same
  bool stream;           // y is written past the caches
};

template <class T, class Element>
struct ConvGradients {
  const Element* u;   // [batch, length, channels]; null: the kernels' gradients are not wanted
  const Element* dy;  // the same
  Element* du;        // the same; null: not wanted
  bool stream;        // du is written past the caches
  // Of these rows of the batch alone.
  T* dkernel;   // [channels, taps]
  T* dreverse;  // the same, or null
  T* dD;        // [channels]
};

// Numbers of scratch that a task needs, aligned to 64 bytes: `buffers` for each element of the plan
// and each lane of the widest vectors, in two parts.
constexpr int64_t kForwardBuffers = 2, kBackwardBuffers = 4;
template <class T>
int64_t ScratchOf(const ConvPlan<T>& plan, int64_t buffers) {
  return plan.plan.n * 2 * buffers * static_cast<int64_t>(64 / sizeof(T));
}

void ConvForward(const ConvFilter<float>& filter, const ConvSignals<float>& signals,
                 const ConvPart& part, float* scratch);
void ConvForward(const ConvFilter<float>& filter, const ConvSignals<BFloat16>& signals,
                 const ConvPart& part, float* scratch);
void ConvForward(const ConvFilter<double>& filter, const ConvSignals<double>& signals,
                 const ConvPart& part, double* scratch);

void ConvBackward(const ConvFilter<float>& filter, const ConvGradients<float, float>& g,
                  const ConvPart& part, float* scratch);
void ConvBackward(const ConvFilter<float>& filter, const ConvGradients<float, BFloat16>& g,
                  const ConvPart& part, float* scratch);
void ConvBackward(const ConvFilter<double>& filter, const ConvGradients<double, double>& g,
                  const ConvPart& part, double* scratch);

}  // namespace fft_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_FFT_FFT_CONV_KERNELS_H_
