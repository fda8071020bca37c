// In what the products of a run are made, and the one place where a layer asks.
//
// Mixed precision (Micikevicius et al. 2018, with bfloat16, which needs no scaling of the loss:
// Kalamkar et al. 2019): the operands of matrix products, of attention and of their gradients are
// rounded to bf16, their sums are f32. Weights, their gradients, the optimizer, the stream, norms,
// softmax and the loss stay f32, so a step too small for bf16 is not lost.

#ifndef RESIDUAL_MODELS_NN_PRECISION_H_
#define RESIDUAL_MODELS_NN_PRECISION_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "models/nn/weight.h"
#include "ops/matmul/matmul.h"
#include "tensor/core/tensor.h"

namespace residual {

enum class Precision {
  kFull,  // in the dtype of the operands
  kBF16   // mixed, of f32 weights
};

// "f32", "bf16".
std::optional<Precision> PrecisionFromName(absl::string_view name);
const char* PrecisionName(Precision precision);
std::vector<std::string> PrecisionNames();

// act(x W + b) in the precision of the run, for a weight [.., ..] whose leading axes make up x's
// last one, K. Under kBF16, x is f32 or bf16 and the result f32, or bf16 with `narrow`: for what
// only goes into another product. Without kBF16 `narrow` says nothing. A stored weight is widened
// to f32, which is exact, where it is multiplied (under kBF16 only f16 and 8 bits are); x is f32
// then. options.transpose_b: the weight is [N, K].
Tensor Linear(const Tensor& x, const Weight& weight, Precision precision, MatMulOptions options,
              bool narrow = false);
Tensor Linear(const Tensor& x, const Tensor& weight, Precision precision, MatMulOptions options,
              bool narrow = false);

// Linear of x with each of some weights, see MatMulEach; with biases (of any shape) or without.
// Those that are stored together are multiplied together.
std::vector<Tensor> LinearEach(const Tensor& x, absl::Span<const Weight* const> weights,
                               absl::Span<const Tensor> biases, Precision precision, bool narrow);

}  // namespace residual

#endif  // RESIDUAL_MODELS_NN_PRECISION_H_
