#include "ops/attention/attention_options.h"

#include <cmath>

#include "ops/flash/flash.h"
#include "tensor/autograd/tape.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace attention_internal {

void CheckQueryAndKey(const char* op, const Tensor& q, const Tensor& k) {
  RESIDUAL_CHECK_OP(op, q.rank() == 4 && k.rank() == 4, q, k);
  RESIDUAL_CHECK_OP(op, IsFloat(q.dtype()) && k.dtype() == q.dtype(), q, k);
  RESIDUAL_CHECK_OP(op, q.dim(0) == k.dim(0) && q.dim(3) == k.dim(3), q, k);
  RESIDUAL_CHECK_OP(op, k.dim(2) > 0 && q.dim(2) % k.dim(2) == 0, q, k);
}

Masks CheckOptions(const char* op, const Tensor& q, const Tensor& k,
                   const AttentionOptions& options) {
  const int64_t batch = q.dim(0), query = q.dim(1), n_heads = q.dim(2);
  const int64_t key = options.key_length.value_or(k.dim(1));
  RESIDUAL_CHECK_OP(op, options.window >= 0, q, k);
  RESIDUAL_CHECK_OP(op, key >= 0 && key <= k.dim(1), q, k);
  RESIDUAL_CHECK_OP(op, !options.causal || key >= query, q, k);
  Masks masks;
  if (const Tensor& mask = options.key_mask; mask.defined()) {
    RESIDUAL_CHECK_OP(op, mask.dtype() == kBool && mask.rank() == 2, q, k, mask);
    RESIDUAL_CHECK_OP(op, (mask.dim(0) == batch || mask.dim(0) == 1) && mask.dim(1) == key, q, k,
                      mask);
    masks.key_mask = mask;
  }
  if (const Tensor& slopes = options.alibi_slopes; slopes.defined()) {
    RESIDUAL_CHECK_OP(op, slopes.rank() == 1 && slopes.dim(0) == n_heads, q, k, slopes);
    RESIDUAL_CHECK_OP(op, slopes.dtype() == kF32 || slopes.dtype() == kF64, q, k, slopes);
    RESIDUAL_CHECK_OP(op, Tape::For({&slopes}) == nullptr, q, k, slopes);
    masks.slopes = ConvertTo(slopes, kF32);
  }
  if (const Tensor& bias = options.bias; bias.defined()) {
    RESIDUAL_CHECK_OP(op, bias.dtype() == q.dtype() && bias.rank() == 4, q, k, bias);
    RESIDUAL_CHECK_OP(op, bias.dim(0) == batch || bias.dim(0) == 1, q, k, bias);
    RESIDUAL_CHECK_OP(op, bias.dim(1) == n_heads || bias.dim(1) == 1, q, k, bias);
    RESIDUAL_CHECK_OP(op, bias.dim(2) == query && bias.dim(3) == key, q, k, bias);
    masks.bias = bias;
  }
  return masks;
}

flash_internal::Problem MakeProblem(const Tensor& q, const Tensor& k, const Masks& masks,
                                    const AttentionOptions& options) {
  flash_internal::Problem p{};
  p.batch = q.dim(0);
  p.query = q.dim(1);
  p.n_heads = q.dim(2);
  p.d_head = q.dim(3);
  p.key = options.key_length.value_or(k.dim(1));
  p.key_room = k.dim(1);
  p.n_kv_heads = k.dim(2);
  const double usual = p.d_head == 0 ? 1 : 1 / std::sqrt(static_cast<double>(p.d_head));
  p.scale = options.scale.value_or(usual);
  p.causal = options.causal;
  p.window = options.window;
  if (masks.key_mask.defined()) {
    p.key_mask = masks.key_mask.data<bool>();
    p.key_mask_batch_stride = masks.key_mask.dim(0) == 1 ? 0 : p.key;
  }
  if (masks.slopes.defined()) p.slopes = masks.slopes.data<float>();
  if (masks.bias.defined()) {
    p.bias = masks.bias.raw_data();
    p.bias_batch = masks.bias.dim(0);
    p.bias_heads = masks.bias.dim(1);
    p.bias_head_stride = p.bias_heads == 1 ? 0 : p.query * p.key;
    p.bias_batch_stride = p.bias_batch == 1 ? 0 : p.bias_heads * p.query * p.key;
  }
  return p;
}

}  // namespace attention_internal
}  // namespace residual
