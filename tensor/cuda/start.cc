#include "tensor/cuda/start.h"

#include "tensor/core/device.h"

namespace residual {

absl::Status StartCudaDevice();  // runtime.cc, where there is a toolkit

absl::Status StartCuda() {
  if constexpr (kBuiltWithCuda) {
    return StartCudaDevice();
  } else {
    return absl::FailedPreconditionError(
        "built without CUDA: no toolkit was found on the machine this program was built on "
        "(docs/gpu.md)");
  }
}

}  // namespace residual
