// Matrix products, batched, with the bias and the activation of a linear layer fused in.
//
//   y = act(op(a) op(b) + bias)
//
// a: [..., M, K], or [..., K, M] with transpose_a.
// b: [..., K, N], or [..., N, K] with transpose_b. Either with a's leading axes, or of rank 2: then
//    shared by the whole batch (and a's leading axes are simply more rows).
// Returns [..., M, N] with a's leading axes, of a's dtype or of options.result.
//
// dtypes: a, b and the bias have one of f32, f64, bf16, f16. f32 and f64 accumulate in themselves;
// bf16 and f16 accumulate in f32, and bias and activation are applied in f32 before the only
// rounding. On processors with AVX512_BF16 pairs of bf16 products are added at once (denormals are
// zero there), which is within the error of f32 accumulation.
//
// A b of weights as they are published: beside an f32 a, b may be bf16 or f16. It is widened, which
// is exact, as the kernel reads it, so no copy is made and a product of few rows reads half the
// bytes; sums and result are f32. Such a b has no gradient (a CHECK, where the tape asks for it).
//
// Mixed precision: with bf16_products a and b are each f32 or bf16, and f32 is rounded to bf16 as
// the kernel reads it, so no copy is made: the bits are those of rounding both first. Sums, bias
// and activation stay f32, and the result is f32 (not rounded) or bf16. The products of the
// gradient are of bf16 too, of dy (through the activation, of y's dtype) with a or b; da, db and
// dbias have the dtypes of a, b and the bias; dbias is summed in f32 without rounding dy.
//
// Any size may be 0: K = 0 gives act(bias) or act(0). The sum over K runs in one order that depends
// on the shapes and the processor only, so the bits are the same for any number of threads and any
// alignment. Infinities and NaN propagate as in the plain formula.
//
// Gradients: of a, b and the bias, with db summed over the batch when b is shared. Through an
// activation: relu, sigmoid and tanh need only the output; the others compute act(pre) from a saved
// pre-activation, which costs its memory only while something is recorded.
//
// Programming errors (a CHECK that prints the operands): rank below 2, unequal K, leading axes or
// dtypes (but for a narrower b, and for bf16_products, with dtypes other than f32 and bf16), a bias
// that is not [N].

#ifndef RESIDUAL_OPS_MATMUL_MATMUL_H_
#define RESIDUAL_OPS_MATMUL_MATMUL_H_

#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "ops/elementwise/elementwise.h"
#include "tensor/core/tensor.h"

namespace residual {

struct MatMulOptions {
  bool transpose_a = false;  // a is stored [..., K, M]
  bool transpose_b = false;  // b is stored [..., N, K], as linear layers of other libraries are
  Tensor bias;               // [N], added to every row; undefined: none
  Activation activation = Activation::kNone;
  bool bf16_products = false;   // of f32 operands too
  std::optional<DType> result;  // f32 or bf16, with bf16_products; else as a
};

Tensor MatMul(const Tensor& a, const Tensor& b, const MatMulOptions& options = {});

// MatMul(a, b[i]) with biases[i] (or without biases, if there are none) for matrices b[i]
// [K, N_i], such as the projections to queries, keys and values: the kernel makes what it makes of
// a, and of a^T for db, once. The bits are those of one by one, gradients included. options: of all
// of them; without transposition, bias and activation.
std::vector<Tensor> MatMulEach(const Tensor& a, absl::Span<const Tensor> b,
                               absl::Span<const Tensor> biases, const MatMulOptions& options = {});

}  // namespace residual

#endif  // RESIDUAL_OPS_MATMUL_MATMUL_H_
