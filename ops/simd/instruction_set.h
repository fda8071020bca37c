// The instructions that kernels are run with.

#ifndef RESIDUAL_OPS_SIMD_INSTRUCTION_SET_H_
#define RESIDUAL_OPS_SIMD_INSTRUCTION_SET_H_

#include <string>

namespace residual {

// "AVX2": the widest set that kernels are compiled for and this processor has. Sums are cut by the
// width of a vector, so results of two sets differ by rounding.
std::string InstructionSet();

}  // namespace residual

#endif  // RESIDUAL_OPS_SIMD_INSTRUCTION_SET_H_
