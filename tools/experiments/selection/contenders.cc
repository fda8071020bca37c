#include "tools/experiments/selection/contenders.h"

#include <string>

#include "models/zoo/zoo.h"

namespace residual {

using nlohmann::json;

namespace {

TransformerConfig TwoLayers(int64_t d_vocab, int64_t d_model, const std::string& mixer,
                            Positions positions, int64_t context) {
  TransformerConfig c;
  c.d_model = d_model;
  c.n_ctx = context;
  c.d_vocab = d_vocab;
  c.blocks = {{mixer}, {mixer}};
  c.positions = positions;
  return c;
}

}  // namespace

json SmallMamba(int64_t d_vocab, int64_t d_model) {
  return {{"model_type", "mamba"},      {"vocab_size", d_vocab}, {"hidden_size", d_model},
          {"num_hidden_layers", 2},     {"state_size", 16},      {"expand", 2},
          {"conv_kernel", 4},           {"use_bias", false},     {"use_conv_bias", true},
          {"tie_word_embeddings", true}};
}

json SmallAttention(int64_t d_vocab, int64_t d_model, Positions positions, int64_t context) {
  TransformerConfig c = TwoLayers(d_vocab, d_model, "attn", positions, context);
  c.n_heads = 4;
  c.d_head = d_model / 4;
  return ConfigToJson(c);
}

json SmallS4(int64_t d_vocab, int64_t d_model, int64_t context) {
  TransformerConfig c = TwoLayers(d_vocab, d_model, "s4d", Positions::kNone, context);
  c.d_state = 64;
  return ConfigToJson(c);
}

}  // namespace residual
