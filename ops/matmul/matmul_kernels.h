// Private: one matrix product on raw memory.

#ifndef RESIDUAL_OPS_MATMUL_MATMUL_KERNELS_H_
#define RESIDUAL_OPS_MATMUL_MATMUL_KERNELS_H_

#include <cstdint>

namespace residual {

// c[M, N] = op(a) op(b) + bias. a is [M, K] row-major, or [K, M] if transpose_a; b is [K, N], or
// [N, K] if transpose_b; c is row-major; bias [N] or null.
template <class T>
struct GemmArgs {
  const T* a;
  const T* b;
  const T* bias;
  T* c;
  int64_t M, N, K;
  bool transpose_a, transpose_b;
};

void GemmCpu(const GemmArgs<float>& args);
void GemmCpu(const GemmArgs<double>& args);

}  // namespace residual

#endif  // RESIDUAL_OPS_MATMUL_MATMUL_KERNELS_H_
