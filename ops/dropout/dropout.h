// Dropout (Srivastava et al. 2014), inverted: while training an element is zeroed with probability
// p and multiplied by 1 / (1 - p) otherwise, so nothing is scaled later.

#ifndef RESIDUAL_OPS_DROPOUT_DROPOUT_H_
#define RESIDUAL_OPS_DROPOUT_DROPOUT_H_

#include <cstdint>

#include "tensor/core/tensor.h"

namespace residual {

// x: any float tensor; p in [0, 1), taken to the nearest multiple of 2^-16 below 1. Element i is
// kept if Bits16(i) of Philox (seed, stream) are at least 2^16 p: a pure function of the index, so
// any number of threads and any restart drop the same elements. p = 0 gives x itself. Of the mask a
// bit per element is kept for the backward pass: drawing it again takes longer than reading the
// gradient.
Tensor Dropout(const Tensor& x, double p, uint64_t seed, uint64_t stream);

}  // namespace residual

#endif  // RESIDUAL_OPS_DROPOUT_DROPOUT_H_
