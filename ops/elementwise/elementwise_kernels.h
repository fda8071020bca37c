// What elementwise.cc calls, and ops that fuse these functions into their own. Pointers to `n`
// contiguous elements; an output may be an input, but overlap none otherwise.

#ifndef RESIDUAL_OPS_ELEMENTWISE_ELEMENTWISE_KERNELS_H_
#define RESIDUAL_OPS_ELEMENTWISE_ELEMENTWISE_KERNELS_H_

#include <cstdint>

namespace residual {

enum class UnaryOp {
  kExp,
  kLog,
  kSqrt,
  kSquare,
  kRelu,
  kGelu,
  kGeluTanh,
  kSilu,
  kSigmoid,
  kTanh,
  kSoftplus
};
// Of an activation that is one.
enum class Activation;
UnaryOp UnaryOpOf(Activation activation);

enum class BinaryOp { kAdd, kSub, kMul, kDiv };

// `stream`: the output is written past the caches where it is aligned to a vector.
void UnaryCpu(UnaryOp op, const float* x, float* y, int64_t n, bool stream = false);
void UnaryCpu(UnaryOp op, const double* x, double* y, int64_t n);
// dx = f'(x) dy; for exp, of y = f(x) in place of x: y dy
void UnaryBackwardCpu(UnaryOp op, const float* x, const float* dy, float* dx, int64_t n,
                      bool stream = false);

void BinaryCpu(BinaryOp op, const float* a, const float* b, float* y, int64_t n,
               bool stream = false);
void BinaryScalarCpu(BinaryOp op, const float* a, float b, float* y, int64_t n,
                     bool stream = false);

// y = silu(a) b; da = dy b silu'(a), db = dy silu(a).
void SiluMulCpu(const float* a, const float* b, float* y, int64_t n, bool stream = false);
void SiluMulBackwardCpu(const float* a, const float* b, const float* dy, float* da, float* db,
                        int64_t n);

// sums[j] += sum over rows of x[r, j], in row order.
void AddRowsCpu(const float* x, int64_t rows, int64_t columns, float* sums);

}  // namespace residual

#endif  // RESIDUAL_OPS_ELEMENTWISE_ELEMENTWISE_KERNELS_H_
