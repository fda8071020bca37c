// Private: what elementwise.cc calls for tensors on a GPU. Pointers to device memory with `n`
// contiguous elements of `dtype`, f32 or f64; outputs do not overlap inputs.

#ifndef RESIDUAL_OPS_ELEMENTWISE_ELEMENTWISE_CUDA_H_
#define RESIDUAL_OPS_ELEMENTWISE_ELEMENTWISE_CUDA_H_

#include <cstdint>

#include "ops/elementwise/elementwise_kernels.h"
#include "tensor/core/dtype.h"

namespace residual {

void UnaryCuda(UnaryOp op, DType dtype, const void* x, void* y, int64_t n);
// dx = f'(x) dy; for exp, of y = f(x) in place of x: y dy
void UnaryBackwardCuda(UnaryOp op, DType dtype, const void* x, const void* dy, void* dx, int64_t n);

// y[i] = a[i] op b[i % width]
void BinaryCuda(BinaryOp op, DType dtype, const void* a, const void* b, int64_t width, void* y,
                int64_t n);
// y[i] = a[i] op b
void BinaryScalarCuda(BinaryOp op, DType dtype, const void* a, double b, void* y, int64_t n);

// y = silu(a) b; da = dy b silu'(a), db = dy silu(a). f32.
void SiluMulCuda(const float* a, const float* b, float* y, int64_t n);
void SiluMulBackwardCuda(const float* a, const float* b, const float* dy, float* da, float* db,
                         int64_t n);

// sums[j] = sum over rows of x[r, j], in double, in an order that depends on the shape only.
// `partial` has room for SumRowsChunks(rows) * width doubles.
int64_t SumRowsChunks(int64_t rows);
void SumRowsCuda(DType dtype, const void* x, int64_t rows, int64_t width, double* partial,
                 void* sums);

}  // namespace residual

#endif  // RESIDUAL_OPS_ELEMENTWISE_ELEMENTWISE_CUDA_H_
