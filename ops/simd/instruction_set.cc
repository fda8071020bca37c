#include "ops/simd/instruction_set.h"

#include <cstdint>

#include "hwy/highway.h"

namespace residual {

std::string InstructionSet() {
  const int64_t usable = hwy::SupportedTargets() & HWY_TARGETS;
  return hwy::TargetName(usable & -usable);  // better ones are lower bits
}

}  // namespace residual
