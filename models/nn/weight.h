// What a model multiplies by and looks rows up in: the parameters that make up its bytes.
//
// A weight is a tensor of its parameter's shape, which can be trained, converted and looked into;
// or it is stored: as a published file has it, in the file's dtype and mapped, perhaps transposed
// or together with other parameters in one tensor. A stored weight can be multiplied by (Linear, in
// precision.h) and looked up in (LookUp), without a copy, and nothing else; Dense() makes the copy.

#ifndef RESIDUAL_MODELS_NN_WEIGHT_H_
#define RESIDUAL_MODELS_NN_WEIGHT_H_

#include <cstdint>
#include <utility>

#include "ops/quantized/quantized.h"
#include "tensor/base/check.h"
#include "tensor/core/tensor.h"

namespace residual {

// A matrix op(values) [in, out] of f32, bf16 or f16, or one of 8 bits. It holds `parts` parameters
// of equal size: their columns one after the other, [in, parts, out], or within each head, [in,
// n_heads, parts, d_head].
struct StoredMatrix {
  Tensor values;              // [in, out], or [out, in]: with all parts
  QuantizedMatrix quantized;  // in place of values
  bool transposed = false;    // [out, in]
  int part = 0, parts = 1;    // which of them the weight is
  bool by_head = false;
  Shape shape;  // of the parameter, whose leading axes are `in` and the others `out`

  bool defined() const { return values.defined() || quantized.defined(); }
  // Two weights are in one matrix.
  const void* bytes() const { return (quantized.defined() ? quantized.values : values).raw_data(); }
};

class Weight {
 public:
  // The tensor, undefined before it has a value. CHECKs that the weight is not stored.
  const Tensor& tensor() const {
    RESIDUAL_CHECK(!stored()) << "a weight that is only stored is used as a tensor";
    return tensor_;
  }
  operator const Tensor&() const { return tensor(); }  // NOLINT: a weight is a tensor, mostly

  bool stored() const { return matrix_.defined(); }
  const StoredMatrix& matrix() const { return matrix_; }
  void Store(StoredMatrix matrix) {
    tensor_ = Tensor();
    matrix_ = std::move(matrix);
  }

  // In what it is multiplied with: the tensor's own dtype; f32 of a stored weight, which is
  // widened.
  DType compute_dtype() const { return stored() ? kF32 : tensor_.dtype(); }

  // The parameter: the tensor, or a copy in f32 of what is stored.
  Tensor Dense() const;

  Weight& operator=(Tensor tensor) {
    matrix_ = StoredMatrix();
    tensor_ = std::move(tensor);
    return *this;
  }

 private:
  friend class Visitor;
  Tensor tensor_;
  StoredMatrix matrix_;
};

// table[ids[...], :], in the table's compute_dtype(). table: [rows, d]. ids: i64 or i32.
Tensor LookUp(const Weight& table, const Tensor& ids);

}  // namespace residual

#endif  // RESIDUAL_MODELS_NN_WEIGHT_H_
