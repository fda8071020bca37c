// Mamba and Mamba-2: Hugging Face's MambaConfig and Mamba2Config, and the config of the authors'
// repository (state-spaces/mamba), with the names of either.

#include <array>
#include <cmath>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "models/transformer/transformer.h"
#include "models/zoo/architectures.h"
#include "models/zoo/transformer_parts.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

using C = TransformerConfig;
using nlohmann::json;

// Weights of linear layers are [out, in]: ours, transposed. A convolution's are [channels, 1,
// taps], as ours.
constexpr std::array<NameRule, 19> Names(const char* embedding) {
  return {{
      {"embed.W_E", embedding},
      {"ln1.w", "backbone.layers.#.norm.weight"},
      {"ln1.b", "backbone.layers.#.norm.bias"},
      {"mixer.in_proj", "backbone.layers.#.mixer.in_proj.weight", TensorLayout::kTransposed},
      {"mixer.in_proj_bias", "backbone.layers.#.mixer.in_proj.bias"},
      {"mixer.conv1d", "backbone.layers.#.mixer.conv1d.weight", TensorLayout::kDisk},
      {"mixer.conv1d_bias", "backbone.layers.#.mixer.conv1d.bias"},
      {"mixer.x_proj", "backbone.layers.#.mixer.x_proj.weight", TensorLayout::kTransposed},
      {"mixer.dt_proj", "backbone.layers.#.mixer.dt_proj.weight", TensorLayout::kTransposed},
      {"mixer.dt_proj_bias", "backbone.layers.#.mixer.dt_proj.bias"},
      {"mixer.dt_bias", "backbone.layers.#.mixer.dt_bias"},
      {"mixer.A_log", "backbone.layers.#.mixer.A_log"},
      {"mixer.D", "backbone.layers.#.mixer.D"},
      {"mixer.norm", "backbone.layers.#.mixer.norm.weight"},
      {"mixer.out_proj", "backbone.layers.#.mixer.out_proj.weight", TensorLayout::kTransposed},
      {"mixer.out_proj_bias", "backbone.layers.#.mixer.out_proj.bias"},
      {"ln_final.w", "backbone.norm_f.weight"},
      {"ln_final.b", "backbone.norm_f.bias"},
      {"unembed.W_U", "lm_head.weight", TensorLayout::kTransposed},
  }};
}
constexpr auto kHuggingFaceNames = Names("backbone.embeddings.weight");
constexpr auto kAuthorsNames = Names("backbone.embedding.weight");

// An output layer that is tied, saved all the same.
bool IsIgnorable(absl::string_view tensor) { return tensor == "lm_head.weight"; }

// What a config may say besides, which changes nothing that is computed here: how the reference
// computes it, in what precision, and what it was made with.
const std::set<std::string>& Besides() {
  static const auto* fields = new std::set<std::string>{"model_type",
                                                        "architectures",
                                                        "transformers_version",
                                                        "torch_dtype",
                                                        "dtype",
                                                        "_name_or_path",
                                                        "bos_token_id",
                                                        "eos_token_id",
                                                        "pad_token_id",
                                                        "use_cache",
                                                        "use_mambapy",
                                                        "use_associative_scan",
                                                        "residual_in_fp32",
                                                        "fused_add_norm",
                                                        "chunk_size",
                                                        "time_step_scale",
                                                        "time_step_init_scheme",
                                                        "tokenizer_class",
                                                        "norm_before_gate",
                                                        "name",
                                                        "training",
                                                        "tokenizer",
                                                        "notes"};
  return *fields;
}

// Fields that nobody reads are warned of: they may be of a variant that is not known here.
std::vector<std::string> Unread(const ConfigReader& config) {
  std::vector<std::string> warnings;
  for (const std::string& key : config.UnreadKeys(Besides())) {
    warnings.push_back(absl::StrCat(config.file(), ": the field ",
                                    ShortJson(json(key.substr(0, 100))),
                                    " is not known and changes nothing"));
  }
  return warnings;
}

// The names of one or of the other come first, and those are written.
absl::StatusOr<BuiltModel> BuiltWith(const C& c, ConfigReader& config, bool authors) {
  BuiltModel built;
  RESIDUAL_ASSIGN_OR_RETURN(built.model, TransformerOf(c, config));
  for (const bool of_authors : {authors, !authors}) {
    NameMap names;
    names.rules = absl::MakeConstSpan(of_authors ? kAuthorsNames : kHuggingFaceNames);
    names.ignorable = IsIgnorable;
    built.names.push_back(names);
    names.dropped_prefix = "backbone.";
    built.names.push_back(names);
  }
  built.warnings = Unread(config);
  return built;
}

// A number, or an infinity as transformers 5 spells it: {"__float__": "Infinity"}.
bool ReadLimit(const json& value, double& limit) {
  if (value.is_object() && value.size() == 1 && value.value("__float__", json()) == "Infinity") {
    limit = HUGE_VAL;
    return true;
  }
  if (!value.is_number()) return false;
  limit = value.get<double>();
  return !std::isnan(limit);
}

// [low, high] of the steps; high 0 of a config is none.
void ReadStepLimits(ConfigReader& config, const FieldNames& field, C& c) {
  const json* value = config.Find(field);
  if (value == nullptr) return;
  double low = 0, high = 0;
  const bool pair = value->is_array() && value->size() == 2 && ReadLimit((*value)[0], low) &&
                    ReadLimit((*value)[1], high);
  if (!pair || low < 0 || high <= low || std::isinf(low)) {
    config.FailField(field, *value, "two numbers [low, high], 0 <= low < high");
    return;
  }
  c.dt_low = low;
  // A limit that no step in f32 exceeds is none.
  c.dt_high = high > 1e6 ? 0 : high;
  if (high > 1e6 && low > 0) c.dt_high = 1e6;
}

// "auto" is ceil(d_model / 16).
void ReadRank(ConfigReader& config, const FieldNames& field, C& c) {
  const json* value = config.Find(field);
  if (value == nullptr || (value->is_string() && *value == "auto")) return;
  if (value->is_string()) {
    config.FailField(field, *value, "\"auto\" or an integer");
  } else {
    c.dt_rank = config.IntOr(field, 0, 1, C::kMaxWidth);
  }
}

// d_inner from a whole factor; where the file says it too, the two must agree.
void ReadInner(ConfigReader& config, const FieldNames& inner, C& c) {
  const int64_t expand = config.IntOr("expand", 2, 1, 1024);
  c.d_inner = config.IntOr(inner, expand * c.d_model, 1, 4 * C::kMaxWidth);
  if (config.ok() && c.d_inner != expand * c.d_model) {
    config.FailField(
        inner, c.d_inner,
        absl::StrCat(expand * c.d_model, ", which is 'expand' times the stream's ", c.d_model));
  }
}

void RefuseOtherActivations(ConfigReader& config) {
  const json* activation = config.Find("hidden_act");
  if (activation == nullptr || *activation != "swish") config.Refuse("hidden_act", "silu");
}

// What both kinds have, and what both repositories have in common.
C Common(const char* mixer, int64_t n_layers) {
  C c;
  c.blocks.assign(n_layers, {mixer});
  c.positions = Positions::kNone;
  c.norm = NormKind::kRmsNorm;
  c.unembed_bias = false;
  return c;
}

C ReadHuggingFace(ConfigReader& config, const char* mixer, bool tied) {
  const int64_t n_layers = config.Int("num_hidden_layers", 1, C::kMaxLayers);
  C c = Common(mixer, n_layers);
  c.d_model = config.Int("hidden_size", 1, C::kMaxWidth);
  c.d_vocab = config.Int("vocab_size", 1, C::kMaxVocabulary);
  c.d_state = config.Int("state_size", 1, C::kMaxState);
  c.d_conv = config.IntOr("conv_kernel", 4, 1, C::kMaxState);
  c.eps = config.NumberOr("layer_norm_epsilon", 1e-5, 0, 1);
  c.mamba_bias = config.BoolOr("use_bias", false);
  c.conv_bias = config.BoolOr("use_conv_bias", true);
  c.tied = config.BoolOr("tie_word_embeddings", tied);
  c.init_scale = config.NumberOr("initializer_range", 0.1, 0, 1e6);
  c.rescale_out_proj = config.BoolOr("rescale_prenorm_residual", false);
  c.steps.min = config.NumberOr("time_step_min", 0.001, 1e-12, 1e6);
  c.steps.max = config.NumberOr("time_step_max", 0.1, 1e-12, 1e6);
  c.steps.floor = config.NumberOr("time_step_floor", 1e-4, 1e-12, 1e6);
  RefuseOtherActivations(config);
  config.Refuse("quantization_config", nullptr);
  // What the authors' configs that were converted still say.
  for (const char* field : {"d_model", "n_layer", "d_inner", "ssm_cfg", "pad_vocab_size_multiple"})
    config.Find(field);
  config.Refuse("rms_norm", true);
  return c;
}

}  // namespace

absl::StatusOr<BuiltModel> BuildMamba(ConfigReader& config) {
  C c = ReadHuggingFace(config, "mamba", true);
  ReadInner(config, "intermediate_size", c);
  ReadRank(config, "time_step_rank", c);
  RESIDUAL_RETURN_IF_ERROR(config.status());
  return BuiltWith(c, config, false);
}

absl::StatusOr<BuiltModel> BuildMamba2(ConfigReader& config) {
  C c = ReadHuggingFace(config, "mamba2", false);
  ReadInner(config, "intermediate_size", c);
  const int64_t heads = config.Int("num_heads", 1, C::kMaxWidth);
  c.mamba_d_head = config.IntOr("head_dim", 64, 1, C::kMaxWidth);
  c.mamba_groups = config.IntOr("n_groups", 8, 1, C::kMaxWidth);
  ReadStepLimits(config, "time_step_limit", c);
  config.Find("time_step_rank");  // of the first Mamba
  if (config.ok() && heads * c.mamba_d_head != c.d_inner) {
    config.FailField("num_heads", heads,
                     absl::StrCat("a number that times 'head_dim', ", c.mamba_d_head, ", is ",
                                  c.d_inner, ", 'expand' times 'hidden_size'"));
  }
  if (config.ok() && heads % c.mamba_groups != 0) {
    config.FailField("n_groups", c.mamba_groups, absl::StrCat("a divisor of 'num_heads', ", heads));
  }
  RESIDUAL_RETURN_IF_ERROR(config.status());
  return BuiltWith(c, config, false);
}

absl::StatusOr<BuiltModel> BuildStateSpaces(ConfigReader& config) {
  static const json kEmpty = json::object();
  const json* ssm = config.Find("ssm_cfg");
  if (ssm == nullptr) ssm = &kEmpty;
  if (!ssm->is_object()) config.FailField("ssm_cfg", *ssm, "an object");
  RESIDUAL_RETURN_IF_ERROR(config.status());
  ConfigReader nested(*ssm, absl::StrCat(config.file(), ": ssm_cfg"));
  const auto kind = [](absl::string_view name) -> std::optional<bool> {
    if (name == "Mamba1") return false;
    if (name == "Mamba2") return true;
    return std::nullopt;
  };
  const bool second = nested.ChoiceOr<bool>("layer", false, kind, {"Mamba1", "Mamba2"});
  const int64_t n_layers = config.Int("n_layer", 1, C::kMaxLayers);
  C c = Common(second ? "mamba2" : "mamba", n_layers);
  c.d_model = config.Int("d_model", 1, C::kMaxWidth);
  const int64_t words = config.Int("vocab_size", 1, C::kMaxVocabulary);
  const int64_t multiple = config.IntOr("pad_vocab_size_multiple", 8, 1, 1 << 20);
  c.d_vocab = (words + multiple - 1) / multiple * multiple;
  c.tied = config.BoolOr("tie_embeddings", true);
  if (!config.BoolOr("rms_norm", true)) c.norm = NormKind::kLayerNorm;
  config.Refuse("d_intermediate", 0);
  config.Refuse("attn_layer_idx", json::array());
  config.Find("attn_cfg");  // of layers that there are none of
  ReadInner(nested, "d_inner", c);
  c.d_state = nested.IntOr("d_state", second ? 128 : 16, 1, C::kMaxState);
  c.d_conv = nested.IntOr("d_conv", 4, 1, C::kMaxState);
  c.mamba_bias = nested.BoolOr("bias", false);
  c.conv_bias = nested.BoolOr("conv_bias", true);
  c.steps.min = nested.NumberOr("dt_min", 0.001, 1e-12, 1e6);
  c.steps.max = nested.NumberOr("dt_max", 0.1, 1e-12, 1e6);
  c.steps.floor = nested.NumberOr("dt_init_floor", 1e-4, 1e-12, 1e6);
  if (second) {
    c.mamba_d_head = nested.IntOr("headdim", 64, 1, C::kMaxWidth);
    c.mamba_groups = nested.IntOr("ngroups", 1, 1, C::kMaxWidth);
    ReadStepLimits(nested, "dt_limit", c);
    nested.Refuse("d_ssm", nullptr);
    nested.Refuse("D_has_hdim", false);
    nested.Refuse("rmsnorm", true);
    nested.Refuse("norm_before_gate", false);
  } else {
    ReadRank(nested, "dt_rank", c);
  }
  nested.FailOnUnreadKeys({"dt_init", "dt_scale", "use_fast_path", "conv_init", "A_init_range",
                           "chunk_size", "use_mem_eff_path"});
  config.Join(nested);
  RESIDUAL_RETURN_IF_ERROR(config.status());
  return BuiltWith(c, config, true);
}

}  // namespace residual
