#include "tools/experiments/text_models/text_models.h"

#include <set>

#include "models/text/tokenizer.h"
#include "models/transformer/transformer.h"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"

namespace residual {

std::vector<int64_t> TokenizedText::occurring() const {
  const std::set<int64_t> seen(tokens.begin(), tokens.end());
  return {seen.begin(), seen.end()};
}

absl::StatusOr<TokenizedText> TokenizeText(const std::string& text, int64_t vocab_size) {
  RESIDUAL_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, TrainBpe(text, vocab_size));
  TokenizedText result;
  result.tokens = tokenizer->Encode(text);
  for (int32_t id = 0; id < tokenizer->vocab_size(); ++id) {
    result.vocabulary.push_back(tokenizer->TokenText(id));
  }
  return result;
}

std::unique_ptr<ResidualModel> NewAttentionOnly(const AttentionOnly& shape, uint64_t seed) {
  RESIDUAL_CHECK(shape.n_heads > 0 && shape.d_model % shape.n_heads == 0)
      << shape.n_heads << " heads, d_model " << shape.d_model;
  TransformerConfig config;
  config.d_model = shape.d_model;
  config.n_ctx = shape.context;
  config.d_vocab = shape.d_vocab;
  config.blocks.assign(shape.layers, {"attn"});
  config.n_heads = shape.n_heads;
  config.d_head = shape.d_model / shape.n_heads;
  config.positions = shape.layers == 0 ? Positions::kNone : Positions::kSinusoidalOnQK;
  config.smeared_keys = shape.smeared_keys;
  config.init_scale = shape.init_scale;
  if (shape.sum_of_paths) {
    config.attention_bias = config.unembed_bias = false;
    config.norm = NormKind::kNone;
  }
  std::unique_ptr<ResidualModel> model = BuildTransformer(config);
  Initialize(*model, seed);
  return model;
}

}  // namespace residual
