// The smallest config of every model type, for tests.

#ifndef RESIDUAL_MODELS_ZOO_SMALL_CONFIGS_H_
#define RESIDUAL_MODELS_ZOO_SMALL_CONFIGS_H_

#include <string>

#include "nlohmann/json.hpp"

namespace residual {

inline nlohmann::json Gpt2Config() {
  return {{"model_type", "gpt2"}, {"vocab_size", 13}, {"n_positions", 8},
          {"n_embd", 12},         {"n_layer", 2},     {"n_head", 3}};
}

inline nlohmann::json TransformerLensConfig() {
  return {{"d_model", 12},
          {"n_layers", 2},
          {"n_heads", 3},
          {"d_head", 4},
          {"n_ctx", 8},
          {"d_vocab", 13},
          {"attn_only", true},
          {"eps", 1e-5},
          {"normalization_type", "LN"},
          {"positional_embedding_type", "standard"}};
}

inline nlohmann::json ResidualConfig() {
  return {{"model_type", "residual"},
          {"d_model", 12},
          {"n_ctx", 8},
          {"d_vocab", 13},
          {"n_heads", 3},
          {"blocks", {{"attn"}, {"attn", "mlp"}}}};
}

inline nlohmann::json LlamaConfig() {
  return {{"model_type", "llama"},    {"vocab_size", 13},
          {"hidden_size", 12},        {"intermediate_size", 20},
          {"num_hidden_layers", 2},   {"num_attention_heads", 6},
          {"num_key_value_heads", 2}, {"max_position_embeddings", 8}};
}

inline nlohmann::json NeoxConfig() {
  return {{"model_type", "gpt_neox"},    {"vocab_size", 13},       {"hidden_size", 24},
          {"intermediate_size", 20},     {"num_hidden_layers", 2}, {"num_attention_heads", 3},
          {"max_position_embeddings", 8}};
}

// The config with one field more, or another value of one.
inline nlohmann::json With(nlohmann::json config, const std::string& field,
                           const nlohmann::json& value) {
  config[field] = value;
  return config;
}

}  // namespace residual

#endif  // RESIDUAL_MODELS_ZOO_SMALL_CONFIGS_H_
