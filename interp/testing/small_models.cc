#include "interp/testing/small_models.h"

#include <vector>

#include "models/nn/module.h"

namespace residual {

TransformerConfig SmallConfig(const std::string& kind, int layers) {
  TransformerConfig config;
  config.d_model = 12;
  config.n_ctx = 16;
  config.d_vocab = 31;
  config.blocks.assign(layers, {"attn", "mlp"});
  config.n_heads = 4;
  config.d_head = 6;
  config.d_mlp = 17;
  if (kind == "grouped_rotary") {
    config.n_kv_heads = 2;
    config.positions = Positions::kRotary;
    config.norm = NormKind::kRmsNorm;
    config.gated_mlp = true;
  } else if (kind == "parallel") {
    config.parallel = true;
  } else if (kind == "attention_only") {
    config.blocks.assign(layers, {"attn"});
    config.norm = NormKind::kNone;
    config.final_norm = false;
    config.positions = Positions::kShortformer;
  } else if (kind == "post_norm") {
    config.norm_placement = NormPlacement::kPost;
  } else if (kind == "alibi") {
    config.positions = Positions::kAlibi;
  }
  return config;
}

TransformerConfig AttentionOnlyConfig(int layers) {
  TransformerConfig config;
  config.d_model = 12;
  config.n_ctx = 10;
  config.d_vocab = 7;
  config.blocks.assign(layers, {"attn"});
  config.n_heads = 3;
  config.d_head = 4;
  config.attention_bias = config.unembed_bias = false;
  config.norm = NormKind::kNone;
  config.positions = Positions::kSinusoidalOnQK;
  config.init_scale = 0.5;
  return config;
}

TransformerConfig MlpOnlyConfig() {
  TransformerConfig config;
  config.d_model = 8;
  config.n_ctx = 8;
  config.d_vocab = 11;
  config.d_mlp = 4;
  config.blocks = {{"mlp"}};
  return config;
}

void Spread(ResidualModel& model, double spread) {
  Initialize(model, 5, kF64);
  for (const Parameter& p : Parameters(model)) {
    if (p.init.kind != Init::kZeros && p.init.kind != Init::kNormal) continue;
    InitializeParameter({p.name, p.value, p.shape, Init::Normal(spread), p.options}, 5, kF64);
  }
}

const ModelInput& SmallPrompts(bool clean) {
  static const auto* inputs = new std::vector<ModelInput>{
      {Tensor::Of<int64_t>({2, 5}, {1, 2, 3, 4, 5, 30, 7, 8, 0, 9})},
      {Tensor::Of<int64_t>({2, 5}, {11, 2, 13, 4, 5, 3, 17, 8, 6, 10})}};
  return (*inputs)[clean ? 1 : 0];
}

}  // namespace residual
