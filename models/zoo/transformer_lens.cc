// Folders in TransformerLens's naming: the fields of HookedTransformerConfig, and the weights as
// its properties stack them or as its state dict names them.

#include <cmath>
#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "models/transformer/transformer.h"
#include "models/zoo/architectures.h"
#include "models/zoo/transformer_parts.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

using C = TransformerConfig;

// The weights of heads and MLPs are stacked; the rest is named as in the state dict.
constexpr NameRule kStacked[] = {
    {"embed.W_E", "W_E"},
    {"pos_embed.W_pos", "W_pos"},
    {"attn.W_Q", "W_Q", TensorLayout::kLayer},
    {"attn.W_K", "W_K", TensorLayout::kLayer},
    {"attn.W_V", "W_V", TensorLayout::kLayer},
    {"attn.W_O", "W_O", TensorLayout::kLayer},
    {"attn.b_Q", "b_Q", TensorLayout::kLayer},
    {"attn.b_K", "b_K", TensorLayout::kLayer},
    {"attn.b_V", "b_V", TensorLayout::kLayer},
    {"attn.b_O", "b_O", TensorLayout::kLayer},
    {"mlp.W_in", "W_in", TensorLayout::kLayer},
    {"mlp.W_gate", "W_gate", TensorLayout::kLayer},
    {"mlp.b_in", "b_in", TensorLayout::kLayer},
    {"mlp.W_out", "W_out", TensorLayout::kLayer},
    {"mlp.b_out", "b_out", TensorLayout::kLayer},
    {"ln1.w", "blocks.#.ln1.w"},
    {"ln1.b", "blocks.#.ln1.b"},
    {"ln2.w", "blocks.#.ln2.w"},
    {"ln2.b", "blocks.#.ln2.b"},
    {"ln_final.w", "ln_final.w"},
    {"ln_final.b", "ln_final.b"},
    {"unembed.W_U", "W_U"},
    {"unembed.b_U", "b_U"},
};

// Buffers.
bool IsIgnorable(absl::string_view tensor) {
  for (const char* end :
       {".attn.mask", ".attn.IGNORE", ".attn.rotary_sin", ".attn.rotary_cos", ".attn.alibi"}) {
    if (absl::EndsWith(tensor, end)) return true;
  }
  return false;
}

// What says how a model was made or run and nothing of what it computes.
const std::set<std::string>& Irrelevant() {
  static const auto* fields = new std::set<std::string>{"model_type",
                                                        "architectures",
                                                        "model_name",
                                                        "original_architecture",
                                                        "from_checkpoint",
                                                        "checkpoint_index",
                                                        "checkpoint_label_type",
                                                        "checkpoint_value",
                                                        "tokenizer_name",
                                                        "tokenizer_prepends_bos",
                                                        "default_prepend_bos",
                                                        "trust_remote_code",
                                                        "init_mode",
                                                        "init_weights",
                                                        "device",
                                                        "n_devices",
                                                        "seed",
                                                        "dtype",
                                                        "torch_dtype",
                                                        "n_params",
                                                        "use_attn_result",
                                                        "use_split_qkv_input",
                                                        "use_hook_mlp_in",
                                                        "use_attn_in",
                                                        "use_hook_tokens",
                                                        "ungroup_grouped_query_attention",
                                                        "load_in_4bit",
                                                        "transformers_version",
                                                        "bos_token_id",
                                                        "eos_token_id",
                                                        "pad_token_id",
                                                        "decoder_start_token_id",
                                                        "relative_attention_max_distance",
                                                        "relative_attention_num_buckets",
                                                        "window_size",
                                                        "experts_per_token"};
  return *fields;
}

struct Normalization {
  NormKind kind;
  bool folded;  // gain and bias are in the weights around it
};

std::optional<Normalization> NormalizationFromName(absl::string_view name) {
  if (name == "LN") return Normalization{NormKind::kLayerNorm, false};
  if (name == "LNPre") return Normalization{NormKind::kLayerNorm, true};
  if (name == "RMS") return Normalization{NormKind::kRmsNorm, false};
  if (name == "RMSPre") return Normalization{NormKind::kRmsNorm, true};
  return std::nullopt;
}

std::optional<Positions> PositionsFromTheirName(absl::string_view name) {
  for (const char* theirs : {"standard", "shortformer", "rotary", "alibi"}) {
    if (name == theirs) return PositionsFromName(name);
  }
  return std::nullopt;
}

// Options that would change the function, at the values that do not.
void RefuseOptions(ConfigReader& config, const C& c) {
  config.Refuse("d_vocab_out", c.d_vocab);
  config.Refuse("n_key_value_heads", c.n_heads);
  config.Refuse("attention_dir", "causal");
  config.Refuse("use_local_attn", false);
  config.Refuse("attn_types", nullptr);
  config.Refuse("post_embedding_ln", false);
  config.Refuse("use_normalization_before_and_after", false);
  config.Refuse("num_experts", nullptr);
  config.Refuse("tie_word_embeddings", false);
  config.Refuse("use_NTK_by_parts_rope", false);
  config.Refuse("use_qk_norm", false);
  config.Refuse("residual_scale", 1.0);
  config.Refuse("attn_scores_soft_cap", -1.0);
  config.Refuse("output_logits_soft_cap", -1.0);
}

}  // namespace

absl::StatusOr<BuiltModel> BuildTransformerLens(ConfigReader& config) {
  C c;
  c.d_model = config.Int("d_model", 1, C::kMaxWidth);
  const int64_t n_layers = config.Int("n_layers", 0, C::kMaxLayers);
  c.n_ctx = config.Int("n_ctx", 1, C::kMaxContext);
  c.d_vocab = config.Int("d_vocab", 1, C::kMaxVocabulary);
  c.d_head = config.Int("d_head", 1, C::kMaxWidth);
  c.n_heads = config.IntOr("n_heads", c.d_model / c.d_head, 1, C::kMaxWidth);
  const bool attn_only = config.BoolOr("attn_only", false);
  c.d_mlp = config.IntOr("d_mlp", 4 * c.d_model, 1, 4 * C::kMaxWidth);
  c.gated_mlp = config.BoolOr("gated_mlp", false);
  if (!attn_only && config.Find("act_fn") == nullptr) {
    config.Fail(absl::StatusCode::kInvalidArgument,
                "'act_fn' is missing, expected the activation of the MLPs, or 'attn_only' true");
  }
  c.activation = ReadActivation(config, "act_fn", c.activation);
  c.parallel = config.BoolOr("parallel_attn_mlp", false);

  // Null, as TransformerLens writes it, is no norm.
  const Normalization norm =
      config.ChoiceOr<Normalization>("normalization_type", {NormKind::kNone, false},
                                     NormalizationFromName, {"LN", "LNPre", "RMS", "RMSPre"});
  if (!config.config().contains("normalization_type")) {
    config.Fail(absl::StatusCode::kInvalidArgument,
                "'normalization_type' is missing, expected \"LN\", \"LNPre\", \"RMS\", \"RMSPre\" "
                "or null");
  }
  c.norm = norm.kind;
  c.final_norm = norm.kind != NormKind::kNone;
  if (norm.kind == NormKind::kLayerNorm) config.Refuse("final_rms", false);
  config.Find("final_rms");
  c.eps = config.NumberOr("eps", 1e-5, 0, 1);

  c.positions = config.ChoiceOr<Positions>("positional_embedding_type", Positions::kLearned,
                                           PositionsFromTheirName,
                                           {"standard", "shortformer", "rotary", "alibi"});
  c.rotary_dim = config.IntOr("rotary_dim", 0, 2, C::kMaxWidth);
  c.rotary_theta = config.NumberOr("rotary_base", 10000, 1, 1e12);
  c.rotary_interleaved = config.BoolOr("rotary_adjacent_pairs", false);

  // Scores are divided by attn_scale; -1 stands for sqrt(d_head).
  const double scale = config.NumberOr("attn_scale", -1, -1, 1e12);
  if (!config.BoolOr("use_attn_scale", true)) {
    c.attention_scale = 1;
  } else if (scale > 0) {
    c.attention_scale = 1 / scale;
  }
  c.scale_by_layer = config.BoolOr("scale_attn_by_inverse_layer_idx", false);
  c.init_scale = std::abs(config.NumberOr("initializer_range", 0.02, -1, 1e6));
  RefuseOptions(config, c);
  RESIDUAL_RETURN_IF_ERROR(config.status());
  const std::vector<std::string> block =
      attn_only ? std::vector<std::string>{"attn"} : std::vector<std::string>{"attn", "mlp"};
  c.blocks.assign(n_layers, block);

  BuiltModel built;
  RESIDUAL_ASSIGN_OR_RETURN(built.model, TransformerOf(c, config));
  NameMap names;
  names.ignorable = IsIgnorable;
  if (norm.folded) names.implied = {"blocks.*.ln?.?", "ln_final.?"};
  built.names.push_back(names);
  names.rules = kStacked;
  built.names.push_back(names);
  for (const std::string& key : config.UnreadKeys(Irrelevant())) {
    built.warnings.push_back(absl::StrCat(config.file(), ": the field ", ShortJson(key),
                                          " is not known and was ignored"));
  }
  return built;
}

}  // namespace residual
