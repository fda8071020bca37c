// Unsigned integers of files that no Tensor has, read as wider signed ones.

#ifndef RESIDUAL_TENSOR_IO_WIDE_INTEGERS_H_
#define RESIDUAL_TENSOR_IO_WIDE_INTEGERS_H_

#include <cstddef>

#include "absl/status/statusor.h"
#include "tensor/core/tensor.h"

namespace residual {

// What unsigned integers of `size` bytes (2, 4, 8) become: i32, i64, i64.
DType WidenedDType(size_t size);

// shape.elements() unsigned integers of `size` bytes at `data` (of any alignment). OutOfRange names
// the first u64 above 2^63 - 1.
absl::StatusOr<Tensor> WidenUnsigned(const char* data, size_t size, const Shape& shape);

}  // namespace residual

#endif  // RESIDUAL_TENSOR_IO_WIDE_INTEGERS_H_
