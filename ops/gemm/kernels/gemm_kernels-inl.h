// All kernels of a dtype on the current Highway target.

#if defined(RESIDUAL_OPS_GEMM_KERNELS_GEMM_KERNELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESIDUAL_OPS_GEMM_KERNELS_GEMM_KERNELS_INL_H_
#undef RESIDUAL_OPS_GEMM_KERNELS_GEMM_KERNELS_INL_H_
#else
#define RESIDUAL_OPS_GEMM_KERNELS_GEMM_KERNELS_INL_H_
#endif

#include "hwy/highway.h"
#include "ops/gemm/kernels/gemm_dot-inl.h"
#include "ops/gemm/kernels/gemm_pack-inl.h"
#include "ops/gemm/kernels/gemm_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace gemm_internal {
namespace HWY_NAMESPACE {

// Operands of S, sums in T; `tile` is PackedTile<T> of this target.
template <class T, class S>
const GemmKernels& KernelsOf(void (*tile)(const TileArgs&), Readers rounded = {}) {
  const int lanes = static_cast<int>(hn::Lanes(Tag<T>()));
  static const GemmKernels kernels = {
      kRows,
      kVectors * lanes,
      (kRows + lanes - 1) / lanes * lanes,
      sizeof(T),
      1,
      tile,
      kUnpackedRows,
      kUnpackedVectors * lanes,
      {Pack<T, S>, UnpackedTiles<T, S>, Dot<T, S, S>},
      rounded,
  };
  return kernels;
}

}  // namespace HWY_NAMESPACE
}  // namespace gemm_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#endif  // RESIDUAL_OPS_GEMM_KERNELS_GEMM_KERNELS_INL_H_
