// Matrix products on raw memory: what ops/matmul is made of, and other ops may be.

#ifndef RESIDUAL_OPS_GEMM_GEMM_H_
#define RESIDUAL_OPS_GEMM_GEMM_H_

#include <cstdint>

#include "absl/types/span.h"
#include "ops/elementwise/elementwise.h"
#include "tensor/core/dtype.h"

namespace residual {

// c[M, N] = act(op(a) op(b) + bias). a is [M, K] row-major, or [K, M] if transpose_a; b is [K, N],
// or [N, K] if transpose_b; c is row-major. All of `dtype`, but bias [N] (or null), which is f64
// for f64 and else f32. `pre`, if not null, gets what the activation is applied to, like c.
//
// If `dtype` is bf16, a and b may each be f32 instead, and are then rounded to bf16 as they are
// read, and c and `pre` may be f32, and are then not rounded. If `dtype` is f32, b may be bf16 or
// f16 instead, and is then widened as it is read: the products are those of f32.
struct GemmArgs {
  DType dtype;
  const void* a;
  const void* b;
  const void* bias;
  void* c;
  void* pre;
  int64_t M, N, K;
  bool transpose_a, transpose_b;
  Activation activation;
  bool f32_a = false, f32_b = false, f32_c = false;
  DType narrow_b = kF32;  // bf16 or f16: of b, in place of f32
  // Set by Gemm alone: c and pre are [N, M], the bias is [M].
  bool transposed_c = false;
};

void Gemm(const GemmArgs& args);

// Gemm of each of the products, which have the same a (and M, K, dtype): it is packed once. The
// bits are those of one by one.
void GemmOfSameA(absl::Span<const GemmArgs> products);

}  // namespace residual

#endif  // RESIDUAL_OPS_GEMM_GEMM_H_
