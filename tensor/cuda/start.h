// Makes the GPU usable. Part of every build: without a CUDA toolkit at build time it only says so.

#ifndef RESIDUAL_TENSOR_CUDA_START_H_
#define RESIDUAL_TENSOR_CUDA_START_H_

#include "absl/status/status.h"

namespace residual {

// After it returned OK, tensors may be on kCuda: the first device that CUDA_VISIBLE_DEVICES leaves.
// Costs what the driver takes to wake up, so only programs that were asked for a GPU call it; again
// and again is fine, from any thread.
//
// Errors, in words for the user:
//   kFailedPrecondition  built without the toolkit; no driver; no device; no code for this device
absl::Status StartCuda();

}  // namespace residual

#endif  // RESIDUAL_TENSOR_CUDA_START_H_
