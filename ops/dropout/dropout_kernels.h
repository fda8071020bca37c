// Private: `n` contiguous floats whose first has index `first` (a multiple of 128) in the tensor.

#ifndef RESIDUAL_OPS_DROPOUT_DROPOUT_KERNELS_H_
#define RESIDUAL_OPS_DROPOUT_DROPOUT_KERNELS_H_

#include <cstdint>

#include "tensor/base/random.h"

namespace residual {

// An element is kept where its 16 random bits, Philox::Bits16(index), are at least `threshold`.
// y = x * scale where kept, else 0. With `mask`: bit i % 64 of mask[i / 64] is whether element i of
// these is kept. `stream`: y is written past the caches, where it is aligned to a vector.
struct DropoutArgs {
  const float* x;
  float* y;
  uint64_t* mask;  // or null
  uint32_t threshold;
  float scale;
  bool stream;
};
void DropoutCpu(const DropoutArgs& args, const Philox& random, int64_t first, int64_t n);

// dx = dy * scale where kept, else 0.
struct DropoutBackwardArgs {
  const float* dy;
  float* dx;
  const uint64_t* mask;
  float scale;
  bool stream;
};
void DropoutBackwardCpu(const DropoutBackwardArgs& args, int64_t n);

}  // namespace residual

#endif  // RESIDUAL_OPS_DROPOUT_DROPOUT_KERNELS_H_
