// Padding, for mixers that a position which is not there would otherwise write to.

#ifndef RESIDUAL_MODELS_STREAM_TOKEN_MASK_H_
#define RESIDUAL_MODELS_STREAM_TOKEN_MASK_H_

#include <cstdint>

#include "models/stream/mixer.h"
#include "tensor/core/tensor.h"

namespace residual {

// 1 where this call has a token and 0 where it has padding, [batch, pos, 1]; undefined where no
// position is padding.
Tensor TokenMask(const MixerContext& context, int64_t batch, int64_t pos, DType dtype);
// x [batch, pos, n] times a TokenMask of its dtype.
Tensor Masked(const Tensor& x, const Tensor& mask);

}  // namespace residual

#endif  // RESIDUAL_MODELS_STREAM_TOKEN_MASK_H_
