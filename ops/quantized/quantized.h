// Products with weights of 8 bits, for decoding, whose time is that of reading the weights.
//
// A matrix w [rows, columns] is held as integers q in [-127, 127] and a scale for every 64 columns
// of a row (a group):
//
//   w[r, k] ~ scale[r, k / 64] q[r, k],   scale[r, g] = max |w[r, k]| / 127 over the group's k,
//                                         q = w (127 / max |w|) to the nearest
//
// All of it is f32 arithmetic: 127 / max |w| is rounded, then its product with w, then that to an
// integer, of two as near the even one. So no weight is off by more than half a scale and some
// millionths of it, and of a weight about halfway between two integers (in files of 16 bits one in
// a thousand is) the other may be taken than exact arithmetic would take. Groups with nothing above
// 1e-36 become zeros.
//
// That is 1.0625 bytes a weight, as llama.cpp's q8_0 has (groups of 32 with a scale of 16 bits;
// Dettmers et al. 2022 on why outliers ask for groups: one scale for a row would save 6 % of the
// bytes and let one large weight cost the others their digits). Only weights are rounded: x,
// products and sums are f32, whatever the precision of the run.

#ifndef RESIDUAL_OPS_QUANTIZED_QUANTIZED_H_
#define RESIDUAL_OPS_QUANTIZED_QUANTIZED_H_

#include <cstdint>

#include "absl/status/status.h"
#include "tensor/core/tensor.h"

namespace residual {

enum class Activation;  // ops/elementwise; Activation() is none

inline constexpr int64_t kQuantizedGroup = 64;

struct QuantizedMatrix {
  int64_t columns = 0;
  Tensor values;  // i8 [rows, columns, rounded up to whole groups by zeros]
  Tensor scales;  // f32 [rows, groups]

  // Of arbitrary values, for QuantizeRows.
  static QuantizedMatrix Uninitialized(int64_t rows, int64_t columns);

  // The rows [begin, end), in the memory of all.
  QuantizedMatrix Rows(int64_t begin, int64_t end) const {
    return {columns, values.Rows(begin, end), scales.Rows(begin, end)};
  }

  bool defined() const { return values.defined(); }
  int64_t rows() const { return values.dim(0); }
  size_t bytes() const { return values.bytes() + scales.bytes(); }
};

// Fills rows [first, first + n) of the matrix with w [n, columns], f32, bf16 or f16. The matrix's
// tensors must be the only handles. InvalidArgument if an element is not finite: it has no scale.
absl::Status QuantizeRows(const Tensor& w, int64_t first, QuantizedMatrix& matrix);

// Fills columns [first, first + n) with w [n, rows], the matrix's transpose: whole groups, but for
// the last. Else like QuantizeRows, and with the same bits.
absl::Status QuantizeColumns(const Tensor& w, int64_t first, QuantizedMatrix& matrix);

// y = activation(x w^T + bias). x: f32 [..., columns]; bias: f32 [rows] or undefined. Returns f32
// [..., rows]. The bits do not depend on the number of threads. Not differentiable (a CHECK where a
// tape tracks x or the bias).
Tensor QuantizedMatMul(const Tensor& x, const QuantizedMatrix& w, const Tensor& bias = Tensor(),
                       Activation activation = Activation());

// The rows [begin, end) in f32, [end - begin, columns].
Tensor Dequantize(const QuantizedMatrix& matrix, int64_t begin, int64_t end);

// Row ids[...] of each, f32 [..., columns]. ids: i64 or i32, in range (a CHECK).
Tensor DequantizeRows(const QuantizedMatrix& matrix, const Tensor& ids);

}  // namespace residual

#endif  // RESIDUAL_OPS_QUANTIZED_QUANTIZED_H_
