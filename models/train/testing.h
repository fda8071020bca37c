// Small models and data for the tests of training.

#ifndef RESIDUAL_MODELS_TRAIN_TESTING_H_
#define RESIDUAL_MODELS_TRAIN_TESTING_H_

#include <memory>
#include <string>
#include <vector>

#include "models/train/data.h"
#include "models/transformer/transformer.h"

namespace residual {

inline TransformerConfig TinyConfig() {
  TransformerConfig config;
  config.d_model = 16;
  config.n_ctx = 12;
  config.d_vocab = 11;
  config.blocks = {{"attn", "mlp"}, {"attn"}};
  config.n_heads = 2;
  config.d_head = 8;
  config.d_mlp = 24;
  return config;
}

inline std::unique_ptr<ResidualModel> TinyModel(const TransformerConfig& config, uint64_t seed = 1,
                                                DType dtype = kF32) {
  std::unique_ptr<ResidualModel> model = BuildTransformer(config);
  Initialize(*model, seed, dtype);
  return model;
}

// A text of 11 tokens with a rule to learn: mostly the next token is the last but one's successor.
inline std::unique_ptr<DataSource> TinyText(int64_t context = 12) {
  std::vector<int32_t> tokens;
  uint32_t state = 1;
  for (int i = 0; i < 3000; ++i) {
    state = state * 1664525u + 1013904223u;
    const bool noise = (state >> 16) % 8 == 0;
    tokens.push_back(
        static_cast<int32_t>(noise || i < 2 ? (state >> 20) % 11 : (tokens[i - 2] + 1) % 11));
  }
  TextOptions options;
  options.context = context;
  return MakeTextData(std::move(tokens), 11, options).value();
}

// Every byte of a model's parameters.
inline std::string WeightBytes(ResidualModel& model) {
  std::string bytes;
  for (const Parameter& parameter : Parameters(model)) {
    bytes.append(static_cast<const char*>(parameter.value->raw_data()), parameter.value->bytes());
  }
  return bytes;
}

}  // namespace residual

#endif  // RESIDUAL_MODELS_TRAIN_TESTING_H_
