// The list of architectures. A new one adds its row to architectures.cc.

#ifndef RESIDUAL_MODELS_ZOO_ARCHITECTURES_H_
#define RESIDUAL_MODELS_ZOO_ARCHITECTURES_H_

#include "absl/types/span.h"
#include "models/checkpoint/checkpoint.h"
#include "models/transformer/transformer.h"

namespace residual {

// In the order they are looked through.
absl::Span<const Architecture> Architectures();

// Each in the file of its name.
absl::StatusOr<BuiltModel> BuildGpt2(ConfigReader& config);             // gpt2.cc
absl::StatusOr<BuiltModel> BuildGptNeox(ConfigReader& config);          // gpt_neox.cc
absl::StatusOr<BuiltModel> BuildLlama(ConfigReader& config);            // llama.cc
absl::StatusOr<BuiltModel> BuildMamba(ConfigReader& config);            // mamba.cc
absl::StatusOr<BuiltModel> BuildMamba2(ConfigReader& config);           // mamba.cc
absl::StatusOr<BuiltModel> BuildStateSpaces(ConfigReader& config);      // mamba.cc
absl::StatusOr<BuiltModel> BuildTransformerLens(ConfigReader& config);  // transformer_lens.cc
absl::StatusOr<BuiltModel> BuildResidual(ConfigReader& config);         // residual.cc
absl::StatusOr<TransformerConfig> ReadResidual(ConfigReader& config);

// The model type of folders of state-spaces/mamba, whose config.json has none.
inline constexpr char kStateSpaces[] = "state_spaces";

// The model type of folders in TransformerLens's own naming, whose config.json has none.
inline constexpr char kTransformerLens[] = "transformer_lens";

// The model type of classifiers, which are no models of tokens: see models/classify.
inline constexpr char kClassifier[] = "residual_classifier";

}  // namespace residual

#endif  // RESIDUAL_MODELS_ZOO_ARCHITECTURES_H_
