#include "tensor/cuda/start.h"

#include "tensor/core/device.h"
#include "tensor/cuda/runtime.h"

namespace residual {

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
