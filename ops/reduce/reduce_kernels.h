// What ops/reduce's kernels are given. Private to the folder.

#ifndef RESIDUAL_OPS_REDUCE_REDUCE_KERNELS_H_
#define RESIDUAL_OPS_REDUCE_REDUCE_KERNELS_H_

#include <cstdint>

#include "tensor/core/dtype.h"

namespace residual {
namespace reduce_internal {

// One kernel for each element type, on the calling thread. Sums are made in f32 over a bounded
// number of elements and in f64 over these.
#define RESIDUAL_REDUCE_KERNELS(T)                                                          \
  /* sum x_i */                                                                             \
  double SumCpu(const T* x, int64_t n);                                                     \
  /* sum x_i^2, all in f64 */                                                               \
  double SumOfSquaresCpu(const T* x, int64_t n);                                            \
  /* sums[c] = sum over r of x[r * stride + c]; columns <= kMaxColumns */                   \
  void SumRowsCpu(const T* x, int64_t rows, int64_t stride, int64_t columns, double* sums); \
  /* index of the first largest element, or of the first NaN; n >= 1 */                     \
  int64_t ArgMaxCpu(const T* x, int64_t n);                                                 \
  /* indices[c] = the same for x[r * stride + c] over r; rows >= 1 */                       \
  void ArgMaxRowsCpu(const T* x, int64_t rows, int64_t stride, int64_t columns, int64_t* indices);

RESIDUAL_REDUCE_KERNELS(float)
RESIDUAL_REDUCE_KERNELS(BFloat16)

#undef RESIDUAL_REDUCE_KERNELS

constexpr int64_t kMaxColumns = 1024;

}  // namespace reduce_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_REDUCE_REDUCE_KERNELS_H_
