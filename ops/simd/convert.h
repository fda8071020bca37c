// 16-bit floats to f32 and back, in vectors. To f32 is exact; from f32 to nearest, ties to even,
// NaN stays NaN.

#ifndef RESIDUAL_OPS_SIMD_CONVERT_H_
#define RESIDUAL_OPS_SIMD_CONVERT_H_

#include <cstdint>

#include "tensor/core/dtype.h"

namespace residual {

// `dtype` is bf16 or f16; n elements.
void Widen(DType dtype, const void* from, float* to, int64_t n);
void Round(DType dtype, const float* from, void* to, int64_t n);

}  // namespace residual

#endif  // RESIDUAL_OPS_SIMD_CONVERT_H_
