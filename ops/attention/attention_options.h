// Checks of the operands that the fused op and its steps share. Private to the folder.

#ifndef RESIDUAL_OPS_ATTENTION_ATTENTION_OPTIONS_H_
#define RESIDUAL_OPS_ATTENTION_ATTENTION_OPTIONS_H_

#include "ops/attention/attention.h"

namespace residual {
namespace flash_internal {
struct Problem;
}
namespace attention_internal {

// The optional operands; slopes in f32.
struct Masks {
  Tensor key_mask, slopes, bias;
};

void CheckQueryAndKey(const char* op, const Tensor& q, const Tensor& k);
Masks CheckOptions(const char* op, const Tensor& q, const Tensor& k,
                   const AttentionOptions& options);

// q and k give the sizes; options' tensors are taken from `masks`.
flash_internal::Problem MakeProblem(const Tensor& q, const Tensor& k, const Masks& masks,
                                    const AttentionOptions& options);

}  // namespace attention_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_ATTENTION_ATTENTION_OPTIONS_H_
