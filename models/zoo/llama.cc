// Hugging Face's Llama (Touvron et al. 2023): LlamaConfig and the names of LlamaForCausalLM.

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "models/transformer/transformer.h"
#include "models/zoo/architectures.h"
#include "models/zoo/rope.h"
#include "models/zoo/transformer_parts.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

using C = TransformerConfig;

// Weights of linear layers are [out, in]: ours, transposed.
constexpr NameRule kNames[] = {
    {"embed.W_E", "model.embed_tokens.weight"},
    {"ln1.w", "model.layers.#.input_layernorm.weight"},
    {"attn.W_Q", "model.layers.#.self_attn.q_proj.weight", TensorLayout::kTransposed},
    {"attn.W_K", "model.layers.#.self_attn.k_proj.weight", TensorLayout::kTransposed},
    {"attn.W_V", "model.layers.#.self_attn.v_proj.weight", TensorLayout::kTransposed},
    {"attn.W_O", "model.layers.#.self_attn.o_proj.weight", TensorLayout::kTransposed},
    {"attn.b_Q", "model.layers.#.self_attn.q_proj.bias"},
    {"attn.b_K", "model.layers.#.self_attn.k_proj.bias"},
    {"attn.b_V", "model.layers.#.self_attn.v_proj.bias"},
    {"attn.b_O", "model.layers.#.self_attn.o_proj.bias"},
    {"ln2.w", "model.layers.#.post_attention_layernorm.weight"},
    {"mlp.W_gate", "model.layers.#.mlp.gate_proj.weight", TensorLayout::kTransposed},
    {"mlp.W_in", "model.layers.#.mlp.up_proj.weight", TensorLayout::kTransposed},
    {"mlp.W_out", "model.layers.#.mlp.down_proj.weight", TensorLayout::kTransposed},
    {"mlp.b_gate", "model.layers.#.mlp.gate_proj.bias"},
    {"mlp.b_in", "model.layers.#.mlp.up_proj.bias"},
    {"mlp.b_out", "model.layers.#.mlp.down_proj.bias"},
    {"ln_final.w", "model.norm.weight"},
    {"unembed.W_U", "lm_head.weight", TensorLayout::kTransposed},
};

// Tables of old versions; an output layer that is tied, saved all the same.
bool IsIgnorable(absl::string_view tensor) {
  return absl::EndsWith(tensor, ".rotary_emb.inv_freq") || tensor == "lm_head.weight";
}

}  // namespace

absl::StatusOr<BuiltModel> BuildLlama(ConfigReader& config) {
  C c;
  c.d_model = config.Int("hidden_size", 1, C::kMaxWidth);
  c.n_heads = config.Int("num_attention_heads", 1, C::kMaxWidth);
  c.n_kv_heads = config.IntOr("num_key_value_heads", c.n_heads, 1, C::kMaxWidth);
  const int64_t n_layers = config.Int("num_hidden_layers", 1, C::kMaxLayers);
  c.n_ctx = config.IntOr("max_position_embeddings", 2048, 1, C::kMaxContext);
  c.d_vocab = config.Int("vocab_size", 1, C::kMaxVocabulary);
  c.d_mlp = config.Int("intermediate_size", 1, 4 * C::kMaxWidth);
  c.gated_mlp = true;
  c.activation = ReadActivation(config, "hidden_act", Activation::kSilu);
  c.norm = NormKind::kRmsNorm;
  c.eps = config.NumberOr("rms_norm_eps", 1e-6, 0, 1);
  c.attention_bias = config.BoolOr("attention_bias", false);
  c.mlp_bias = c.gate_bias = config.BoolOr("mlp_bias", false);
  c.tied = config.BoolOr("tie_word_embeddings", false);
  c.unembed_bias = false;
  c.attn_dropout = config.NumberOr("attention_dropout", 0, 0, 1);
  c.init_scale = config.NumberOr("initializer_range", 0.02, 0, 1e6);
  // In how many parts the reference makes its products; the same function.
  config.IntOr("pretraining_tp", 1, 1, 1 << 20);
  config.Refuse("sliding_window", nullptr);
  config.Refuse("quantization_config", nullptr);
  const double rotated = ReadRope(config, "rope_theta", 1, c);
  if (config.ok() && config.Find("head_dim") == nullptr && c.d_model % c.n_heads != 0) {
    config.FailField("num_attention_heads", c.n_heads,
                     absl::StrCat("a divisor of 'hidden_size', ", c.d_model, ", or a 'head_dim'"));
  }
  if (config.ok() && c.n_heads % c.n_kv_heads != 0) {
    config.FailField("num_key_value_heads", c.n_kv_heads,
                     absl::StrCat("a divisor of 'num_attention_heads', ", c.n_heads));
  }
  RESIDUAL_RETURN_IF_ERROR(config.status());
  c.d_head = config.IntOr("head_dim", c.d_model / c.n_heads, 1, C::kMaxWidth);
  c.rotary_dim = static_cast<int64_t>(static_cast<double>(c.d_head) * rotated);
  c.blocks.assign(n_layers, {"attn", "mlp"});
  return BuiltFrom(c, config, kNames, "model.", IsIgnorable);
}

}  // namespace residual
