#include "tensor/core/cuda_hooks.h"

#include "tensor/base/check.h"

namespace residual {
namespace {

CudaHooks& Hooks() {
  static CudaHooks hooks{};
  return hooks;
}

}  // namespace

const CudaHooks& GetCudaHooks() {
  RESIDUAL_CHECK(HaveCudaHooks()) << "a CUDA tensor in a program without tensor/cuda";
  return Hooks();
}

void SetCudaHooks(const CudaHooks& hooks) { Hooks() = hooks; }
bool HaveCudaHooks() { return Hooks().allocate != nullptr; }

}  // namespace residual
