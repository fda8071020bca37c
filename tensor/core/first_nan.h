// Where a tensor has its first NaN.

#ifndef RESIDUAL_TENSOR_CORE_FIRST_NAN_H_
#define RESIDUAL_TENSOR_CORE_FIRST_NAN_H_

#include <cstdint>
#include <optional>

#include "tensor/core/tensor.h"

namespace residual {

// The place, in row-major order, of the first NaN of a tensor on the host; nullopt: there is none
// (integers hold none).
std::optional<int64_t> FirstNaN(const Tensor& x);

}  // namespace residual

#endif  // RESIDUAL_TENSOR_CORE_FIRST_NAN_H_
