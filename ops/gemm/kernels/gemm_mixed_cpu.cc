// f32 products of a bf16 or f16 b, widened as it is packed or read.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/gemm/kernels/gemm_mixed_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target:
#include "hwy/highway.h"
#include "ops/gemm/kernels/gemm_kernels-inl.h"
#include "ops/gemm/kernels/gemm_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace gemm_internal {
namespace HWY_NAMESPACE {

template <class S>
const Readers& ReadersOf() {
  static const Readers readers = {Pack<float, S>, UnpackedTiles<float, S>, Dot<float, float, S>};
  return readers;
}

const Readers& OfWidenedBF16() { return ReadersOf<BFloat16>(); }
const Readers& OfWidenedF16() { return ReadersOf<Float16>(); }

}  // namespace HWY_NAMESPACE
}  // namespace gemm_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace gemm_internal {

HWY_EXPORT(OfWidenedBF16);
HWY_EXPORT(OfWidenedF16);

const Readers& WidenedBF16() { return HWY_DYNAMIC_DISPATCH(OfWidenedBF16)(); }
const Readers& WidenedF16() { return HWY_DYNAMIC_DISPATCH(OfWidenedF16)(); }

}  // namespace gemm_internal
}  // namespace residual
#endif  // HWY_ONCE
