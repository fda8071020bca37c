// What the configs of several transformer architectures have in common.

#ifndef RESIDUAL_MODELS_ZOO_TRANSFORMER_PARTS_H_
#define RESIDUAL_MODELS_ZOO_TRANSFORMER_PARTS_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "models/checkpoint/checkpoint.h"
#include "models/checkpoint/config_reader.h"
#include "models/checkpoint/names.h"
#include "models/transformer/transformer.h"
#include "tensor/base/status_macros.h"

namespace residual {

inline Activation ReadActivation(ConfigReader& config, const FieldNames& field,
                                 Activation fallback) {
  return config.ChoiceOr<Activation>(field, fallback, ActivationFromName, ActivationNames());
}

// A model with parameters of no value; a size that is too large as a whole is an error of the file.
inline absl::StatusOr<std::unique_ptr<ResidualModel>> TransformerOf(const TransformerConfig& c,
                                                                    ConfigReader& config) {
  const absl::Status valid = ValidateTransformerConfig(c);
  if (!valid.ok()) config.Fail(valid.code(), valid.message());
  RESIDUAL_RETURN_IF_ERROR(config.status());
  return BuildTransformer(c);
}

// The model of a config, and its files' names: as Hugging Face saves the model with its head, or
// without, which leaves out `prefix`.
inline absl::StatusOr<BuiltModel> BuiltFrom(const TransformerConfig& c, ConfigReader& config,
                                            absl::Span<const NameRule> rules, const char* prefix,
                                            bool (*ignorable)(absl::string_view tensor)) {
  BuiltModel built;
  RESIDUAL_ASSIGN_OR_RETURN(built.model, TransformerOf(c, config));
  NameMap names;
  names.rules = rules;
  names.ignorable = ignorable;
  built.names.push_back(names);
  names.dropped_prefix = prefix;
  built.names.push_back(names);
  return built;
}

}  // namespace residual

#endif  // RESIDUAL_MODELS_ZOO_TRANSFORMER_PARTS_H_
