// bf16 and f16: widened to f32 as they are packed or read. f32 in place of bf16 is rounded there.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/gemm/kernels/gemm_half_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target:
#include "hwy/highway.h"
#include "ops/gemm/kernels/gemm_kernels-inl.h"
#include "ops/gemm/kernels/gemm_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace gemm_internal {
namespace HWY_NAMESPACE {

const GemmKernels& OfBF16() {
  return KernelsOf<float, BFloat16>(KernelsF32().tile,
                                    {Pack<float, RoundedFloat>, UnpackedTiles<float, RoundedFloat>,
                                     Dot<float, BFloat16, RoundedFloat>});
}
const GemmKernels& OfF16() { return KernelsOf<float, Float16>(KernelsF32().tile); }

}  // namespace HWY_NAMESPACE
}  // namespace gemm_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace gemm_internal {

HWY_EXPORT(OfBF16);
HWY_EXPORT(OfF16);

const GemmKernels& KernelsBF16() {
  const GemmKernels* native = NativeKernelsBF16();
  return native != nullptr ? *native : HWY_DYNAMIC_DISPATCH(OfBF16)();
}

const GemmKernels& KernelsF16() { return HWY_DYNAMIC_DISPATCH(OfF16)(); }

}  // namespace gemm_internal
}  // namespace residual
#endif  // HWY_ONCE
