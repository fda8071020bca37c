#include "models/stream/token_mask.h"

#include "ops/elementwise/elementwise.h"
#include "ops/layout/layout.h"

namespace residual {

Tensor TokenMask(const MixerContext& context, int64_t batch, int64_t pos, DType dtype) {
  const Tensor& keys = context.key_mask;
  if (!keys.defined()) return Tensor();
  Tensor mask = Tensor::Uninitialized({batch, pos, 1});
  bool padded = false;
  for (int64_t row = 0; row < batch; ++row) {
    const bool* is_token = keys.data<bool>() + row * keys.dim(1) + keys.dim(1) - pos;
    for (int64_t i = 0; i < pos; ++i) {
      mask.mutable_data<float>()[row * pos + i] = is_token[i] ? 1.0f : 0.0f;
      padded |= !is_token[i];
    }
  }
  return padded ? ConvertTo(mask, dtype) : Tensor();
}

Tensor Masked(const Tensor& x, const Tensor& mask) {
  return mask.defined() ? Mul(x, BroadcastTo(mask, x.shape())) : x;
}

}  // namespace residual
