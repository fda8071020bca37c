// RESIDUAL_CHECK_OP: the check at the head of an op. It prints the op, the condition and every
// operand's dtype and shape:
//
//   RESIDUAL_CHECK_OP("softmax", x.rank() >= 1 && x.dtype() == kF32, x);
//   softmax: check failed: x.rank() >= 1 && x.dtype() == kF32; operands i64[2, 3]

#ifndef RESIDUAL_TENSOR_CORE_OP_CHECK_H_
#define RESIDUAL_TENSOR_CORE_OP_CHECK_H_

#include <initializer_list>

#include "absl/base/optimization.h"
#include "tensor/core/tensor.h"

namespace residual {
namespace internal {

[[noreturn]] void OpCheckFailed(const char* op, const char* condition,
                                std::initializer_list<const Tensor*> operands);

template <class... Tensors>
[[noreturn]] void OpCheckFailed(const char* op, const char* condition, const Tensors&... operands) {
  OpCheckFailed(op, condition, {&operands...});
}

}  // namespace internal
}  // namespace residual

#define RESIDUAL_CHECK_OP(op, condition, ...) \
  (ABSL_PREDICT_TRUE(condition)               \
       ? (void)0                              \
       : ::residual::internal::OpCheckFailed(op, #condition, __VA_ARGS__))

#endif  // RESIDUAL_TENSOR_CORE_OP_CHECK_H_
