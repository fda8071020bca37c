// Reading and adding rows by index. Indices are i64 or i32. An index out of range is a programming
// error (a CHECK that names the op, the index, its position and the number of rows): ids from
// outside the process are validated by the caller first.
//
// Gradients of reads add up where an index occurs more than once: in order of position, whatever
// the number of threads; f32 and f64 in their own precision, bf16 and f16 in f32, rounded once.

#ifndef RESIDUAL_OPS_EMBEDDING_EMBEDDING_H_
#define RESIDUAL_OPS_EMBEDDING_EMBEDDING_H_

#include <cstdint>

#include "tensor/core/tensor.h"

namespace residual {

// y[..., :] = table[ids[...], :]. table: [rows, d], float; ids: [...]. Returns [..., d].
// The gradient of the table is dense: [rows, d].
Tensor Embedding(const Tensor& table, const Tensor& ids);

// The same along the leading axis of any tensor: x [rows, rest...], any dtype; indices [...].
// Returns [..., rest...]. Differentiable in float x.
Tensor GatherRows(const Tensor& x, const Tensor& indices);

// y[r] = sum of updates[i] over the i with indices[i] == r, zero for a row without any. updates:
// [indices' shape..., rest...], float; returns [rows, rest...]. Differentiable in updates (their
// gradient is GatherRows). The transpose of GatherRows.
Tensor ScatterAddRows(int64_t rows, const Tensor& updates, const Tensor& indices);

// y[..., i, ...] = x[..., indices[..., i, ...], ...] along `axis` (numpy.take_along_axis).
// x: any dtype; indices: x's shape but for `axis`, where it may have any size. Returns indices'
// shape in x's dtype. Differentiable in float x.
Tensor TakeAlong(const Tensor& x, const Tensor& indices, int axis = -1);

}  // namespace residual

#endif  // RESIDUAL_OPS_EMBEDDING_EMBEDDING_H_
