// Private: a few products as the sum is written, where packing would cost more than they do.

#ifndef RESIDUAL_OPS_GEMM_GEMM_TINY_H_
#define RESIDUAL_OPS_GEMM_GEMM_TINY_H_

#include "ops/gemm/gemm.h"

namespace residual {
namespace gemm_internal {

constexpr double kTiny = 256;  // multiplications at most

void RunTiny(const GemmArgs& g);

}  // namespace gemm_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_GEMM_GEMM_TINY_H_
