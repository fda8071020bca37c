// Private: rows of n contiguous floats.

#ifndef RESIDUAL_OPS_NORM_NORM_KERNELS_H_
#define RESIDUAL_OPS_NORM_NORM_KERNELS_H_

#include <cstdint>

namespace residual {

// `stream`: what is written is written past the caches, and is no input.
struct NormArgs {
  const float* x;
  const float* add;     // or null: what is added to x first
  float* sum;           // x + add, if that is not null
  const float* weight;  // or null
  const float* bias;    // or null
  float* y;
  float* mean;   // [rows], or null: RMS norm, nothing is subtracted
  float* scale;  // [rows]: sqrt(var + eps)
  int64_t n;
  float eps;
  bool stream;
};
void NormCpu(const NormArgs& args, int64_t begin, int64_t end);

// With h = (x - mean) / scale and g = dy weight:
//   dx = (g - mean(g) - h mean(g h)) / scale     (without mean(g) for RMS norm)
// dweight += sum over rows of dy h, dbias += sum over rows of dy, where not null.
struct NormBackwardArgs {
  const float* x;
  const float* weight;  // or null
  const float* mean;    // or null
  const float* scale;
  const float* dy;
  const float* dscale;  // [rows] or null: gradient of the denominator
  const float* dsum;    // or null: is added to dx
  float* dx;            // or null
  int64_t n;
  bool stream;
};
void NormBackwardCpu(const NormBackwardArgs& args, int64_t begin, int64_t end, float* dweight,
                     float* dbias);

}  // namespace residual

#endif  // RESIDUAL_OPS_NORM_NORM_KERNELS_H_
