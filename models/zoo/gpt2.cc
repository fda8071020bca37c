// Hugging Face's GPT-2 (Radford et al. 2019): GPT2Config and the names of GPT2LMHeadModel.

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "models/transformer/transformer.h"
#include "models/zoo/architectures.h"
#include "models/zoo/transformer_parts.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

using C = TransformerConfig;

// Conv1D weights are [in, out], as ours.
constexpr NameRule kNames[] = {
    {"embed.W_E", "transformer.wte.weight"},
    {"pos_embed.W_pos", "transformer.wpe.weight"},
    {"ln1.w", "transformer.h.#.ln_1.weight"},
    {"ln1.b", "transformer.h.#.ln_1.bias"},
    {"attn.W_Q", "transformer.h.#.attn.c_attn.weight", TensorLayout::kColumns, 0, 3},
    {"attn.W_K", "transformer.h.#.attn.c_attn.weight", TensorLayout::kColumns, 1, 3},
    {"attn.W_V", "transformer.h.#.attn.c_attn.weight", TensorLayout::kColumns, 2, 3},
    {"attn.b_Q", "transformer.h.#.attn.c_attn.bias", TensorLayout::kColumns, 0, 3},
    {"attn.b_K", "transformer.h.#.attn.c_attn.bias", TensorLayout::kColumns, 1, 3},
    {"attn.b_V", "transformer.h.#.attn.c_attn.bias", TensorLayout::kColumns, 2, 3},
    {"attn.W_O", "transformer.h.#.attn.c_proj.weight"},
    {"attn.b_O", "transformer.h.#.attn.c_proj.bias"},
    {"ln2.w", "transformer.h.#.ln_2.weight"},
    {"ln2.b", "transformer.h.#.ln_2.bias"},
    {"mlp.W_in", "transformer.h.#.mlp.c_fc.weight"},
    {"mlp.b_in", "transformer.h.#.mlp.c_fc.bias"},
    {"mlp.W_out", "transformer.h.#.mlp.c_proj.weight"},
    {"mlp.b_out", "transformer.h.#.mlp.c_proj.bias"},
    {"ln_final.w", "transformer.ln_f.weight"},
    {"ln_final.b", "transformer.ln_f.bias"},
    {"unembed.W_U", "lm_head.weight", TensorLayout::kTransposed},
};

// Causal masks, buffers of old versions; an output layer that is tied, saved all the same.
bool IsIgnorable(absl::string_view tensor) {
  return absl::EndsWith(tensor, ".attn.bias") || absl::EndsWith(tensor, ".attn.masked_bias") ||
         tensor == "lm_head.weight";
}

}  // namespace

absl::StatusOr<BuiltModel> BuildGpt2(ConfigReader& config) {
  const FieldNames n_embd = {"n_embd", "hidden_size"}, n_head = {"n_head", "num_attention_heads"};
  C c;
  c.d_model = config.Int(n_embd, 1, C::kMaxWidth);
  c.n_heads = config.Int(n_head, 1, C::kMaxWidth);
  const int64_t n_layers = config.Int({"n_layer", "num_hidden_layers"}, 1, C::kMaxLayers);
  // Old configs also have n_ctx, which only counts where it stands alone.
  const FieldNames n_positions = {"n_positions", "max_position_embeddings"};
  c.n_ctx = config.Find(n_positions) == nullptr && config.Find("n_ctx") != nullptr
                ? config.Int("n_ctx", 1, C::kMaxContext)
                : config.Int(n_positions, 1, C::kMaxContext);
  c.d_vocab = config.Int("vocab_size", 1, C::kMaxVocabulary);
  c.d_mlp = config.IntOr("n_inner", 4 * c.d_model, 1, 4 * C::kMaxWidth);
  c.activation = ReadActivation(config, {"activation_function", "hidden_act"}, c.activation);
  c.eps = config.NumberOr("layer_norm_epsilon", 1e-5, 0, 1);
  if (!config.BoolOr("scale_attn_weights", true)) c.attention_scale = 1;
  c.scale_by_layer = config.BoolOr("scale_attn_by_inverse_layer_idx", false);
  // The order of operations in mixed precision; the same function.
  config.BoolOr("reorder_and_upcast_attn", false);
  c.tied = config.BoolOr("tie_word_embeddings", true);
  c.unembed_bias = false;
  c.embed_dropout = config.NumberOr("embd_pdrop", 0.1, 0, 1);
  c.attn_dropout = config.NumberOr("attn_pdrop", 0.1, 0, 1);
  c.resid_dropout = config.NumberOr("resid_pdrop", 0.1, 0, 1);
  c.init_scale = config.NumberOr("initializer_range", 0.02, 0, 1e6);
  c.scale_residual_init = true;
  config.Refuse("add_cross_attention", false);
  config.Refuse("is_encoder_decoder", false);
  config.Refuse("pruned_heads", nlohmann::json::object());
  config.Refuse("quantization_config", nullptr);
  if (config.ok() && c.d_model % c.n_heads != 0) {
    config.FailField(n_head, c.n_heads, absl::StrCat("a divisor of 'n_embd', ", c.d_model));
  }
  RESIDUAL_RETURN_IF_ERROR(config.status());
  c.d_head = c.d_model / c.n_heads;
  c.blocks.assign(n_layers, {"attn", "mlp"});
  return BuiltFrom(c, config, kNames, "transformer.", IsIgnorable);
}

}  // namespace residual
