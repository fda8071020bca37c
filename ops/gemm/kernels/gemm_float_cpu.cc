// f32 and f64.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/gemm/kernels/gemm_float_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target:
#include "hwy/highway.h"
#include "ops/gemm/kernels/gemm_kernels-inl.h"
#include "ops/gemm/kernels/gemm_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace gemm_internal {
namespace HWY_NAMESPACE {

const GemmKernels& OfF32() { return KernelsOf<float, float>(PackedTile<float>); }
const GemmKernels& OfF64() { return KernelsOf<double, double>(PackedTile<double>); }

}  // namespace HWY_NAMESPACE
}  // namespace gemm_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace gemm_internal {

HWY_EXPORT(OfF32);
HWY_EXPORT(OfF64);

const GemmKernels& KernelsF32() { return HWY_DYNAMIC_DISPATCH(OfF32)(); }
const GemmKernels& KernelsF64() { return HWY_DYNAMIC_DISPATCH(OfF64)(); }

}  // namespace gemm_internal
}  // namespace residual
#endif  // HWY_ONCE
