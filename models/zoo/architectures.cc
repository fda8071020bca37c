#include "models/zoo/architectures.h"

namespace residual {

absl::Span<const Architecture> Architectures() {
  static constexpr Architecture kArchitectures[] = {
      {"gpt2", BuildGpt2},
      {"gpt_neox", BuildGptNeox},
      {"llama", BuildLlama},
      {"mamba", BuildMamba},
      {"mamba2", BuildMamba2},
      {"residual", BuildResidual},
      {kStateSpaces, BuildStateSpaces},
      {kTransformerLens, BuildTransformerLens},
  };
  return kArchitectures;
}

}  // namespace residual
