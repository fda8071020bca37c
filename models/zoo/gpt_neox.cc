// Hugging Face's GPT-NeoX (Black et al. 2022), of which the Pythia models are: GPTNeoXConfig and
// the names of GPTNeoXForCausalLM.

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

// Weights of linear layers are [out, in]; of each head the queries, keys and values lie together.
constexpr NameRule kNames[] = {
    {"embed.W_E", "gpt_neox.embed_in.weight"},
    {"ln1.w", "gpt_neox.layers.#.input_layernorm.weight"},
    {"ln1.b", "gpt_neox.layers.#.input_layernorm.bias"},
    {"attn.W_Q", "gpt_neox.layers.#.attention.query_key_value.weight", TensorLayout::kHeadParts, 0,
     3},
    {"attn.W_K", "gpt_neox.layers.#.attention.query_key_value.weight", TensorLayout::kHeadParts, 1,
     3},
    {"attn.W_V", "gpt_neox.layers.#.attention.query_key_value.weight", TensorLayout::kHeadParts, 2,
     3},
    {"attn.b_Q", "gpt_neox.layers.#.attention.query_key_value.bias", TensorLayout::kHeadParts, 0,
     3},
    {"attn.b_K", "gpt_neox.layers.#.attention.query_key_value.bias", TensorLayout::kHeadParts, 1,
     3},
    {"attn.b_V", "gpt_neox.layers.#.attention.query_key_value.bias", TensorLayout::kHeadParts, 2,
     3},
    {"attn.W_O", "gpt_neox.layers.#.attention.dense.weight", TensorLayout::kTransposed},
    {"attn.b_O", "gpt_neox.layers.#.attention.dense.bias"},
    {"ln2.w", "gpt_neox.layers.#.post_attention_layernorm.weight"},
    {"ln2.b", "gpt_neox.layers.#.post_attention_layernorm.bias"},
    {"mlp.W_in", "gpt_neox.layers.#.mlp.dense_h_to_4h.weight", TensorLayout::kTransposed},
    {"mlp.b_in", "gpt_neox.layers.#.mlp.dense_h_to_4h.bias"},
    {"mlp.W_out", "gpt_neox.layers.#.mlp.dense_4h_to_h.weight", TensorLayout::kTransposed},
    {"mlp.b_out", "gpt_neox.layers.#.mlp.dense_4h_to_h.bias"},
    {"ln_final.w", "gpt_neox.final_layer_norm.weight"},
    {"ln_final.b", "gpt_neox.final_layer_norm.bias"},
    {"unembed.W_U", "embed_out.weight", TensorLayout::kTransposed},
};

// Causal masks and tables of old versions; an output layer that is tied, saved all the same.
bool IsIgnorable(absl::string_view tensor) {
  for (const char* end : {".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq"}) {
    if (absl::EndsWith(tensor, end)) return true;
  }
  return tensor == "embed_out.weight";
}

}  // namespace

absl::StatusOr<BuiltModel> BuildGptNeox(ConfigReader& config) {
  const FieldNames n_heads = "num_attention_heads";
  C c;
  c.d_model = config.Int("hidden_size", 1, C::kMaxWidth);
  c.n_heads = config.Int(n_heads, 1, C::kMaxWidth);
  const int64_t n_layers = config.Int("num_hidden_layers", 1, C::kMaxLayers);
  c.n_ctx = config.IntOr("max_position_embeddings", 2048, 1, C::kMaxContext);
  c.d_vocab = config.Int("vocab_size", 1, C::kMaxVocabulary);
  c.d_mlp = config.Int("intermediate_size", 1, 4 * C::kMaxWidth);
  c.activation = ReadActivation(config, "hidden_act", Activation::kGelu);
  c.eps = config.NumberOr("layer_norm_eps", 1e-5, 0, 1);
  c.parallel = config.BoolOr("use_parallel_residual", true);
  c.attention_bias = config.BoolOr("attention_bias", true);
  c.tied = config.BoolOr("tie_word_embeddings", false);
  c.unembed_bias = false;
  c.embed_dropout = c.resid_dropout = config.NumberOr("hidden_dropout", 0, 0, 1);
  c.attn_dropout = config.NumberOr("attention_dropout", 0, 0, 1);
  c.init_scale = config.NumberOr("initializer_range", 0.02, 0, 1e6);
  config.Refuse("quantization_config", nullptr);
  const double rotated = ReadRope(config, {"rope_theta", "rotary_emb_base"}, 0.25, c);
  if (config.ok() && c.d_model % c.n_heads != 0) {
    config.FailField(n_heads, c.n_heads, absl::StrCat("a divisor of 'hidden_size', ", c.d_model));
  }
  RESIDUAL_RETURN_IF_ERROR(config.status());
  c.d_head = c.d_model / c.n_heads;
  c.rotary_dim = static_cast<int64_t>(static_cast<double>(c.d_head) * rotated);
  if (c.rotary_dim == 0) c.positions = Positions::kNone;
  c.blocks.assign(n_layers, {"attn", "mlp"});
  return BuiltFrom(c, config, kNames, "gpt_neox.", IsIgnorable);
}

}  // namespace residual
