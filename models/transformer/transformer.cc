#include "models/transformer/transformer.h"

#include <cmath>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "models/attention/attention.h"
#include "models/mamba/mamba.h"
#include "models/mamba/mamba2.h"
#include "models/mlp/mlp.h"
#include "models/s4/mixer/s4.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

struct ActivationEntry {
  const char* name;
  Activation activation;
};
// The first name of an activation is the one written. "gelu" is the exact one (erf) in Hugging
// Face's naming; "gelu_new" and "gelu_pytorch_tanh" are the tanh form.
constexpr ActivationEntry kActivations[] = {
    {"gelu_new", Activation::kGeluTanh},  {"gelu", Activation::kGelu},
    {"relu", Activation::kRelu},          {"silu", Activation::kSilu},
    {"swish", Activation::kSilu},         {"gelu_pytorch_tanh", Activation::kGeluTanh},
    {"gelu_fast", Activation::kGeluTanh}, {"gelu_accurate", Activation::kGeluTanh},
    {"gelu_python", Activation::kGelu},   {"tanh", Activation::kTanh},
    {"sigmoid", Activation::kSigmoid},
};

struct PositionsEntry {
  const char* name;
  Positions positions;
};
constexpr PositionsEntry kPositions[] = {
    {"standard", Positions::kLearned},
    {"sinusoidal", Positions::kSinusoidal},
    {"shortformer", Positions::kShortformer},
    {"sinusoidal_qk", Positions::kSinusoidalOnQK},
    {"rotary", Positions::kRotary},
    {"alibi", Positions::kAlibi},
    {"none", Positions::kNone},
};

absl::Status CheckRange(const char* field, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("'", field, "' is ", value, ", expected an integer in [", low, ", ", high, "]"));
}

absl::Status CheckProbability(const char* field, double value) {
  if (value >= 0 && value < 1) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("'", field, "' is ", value, ", expected a number in [0, 1)"));
}

// The standard deviation at which matrices that write to the stream start.
double OutInitScale(const TransformerConfig& c) {
  if (!c.scale_residual_init || c.blocks.empty()) return c.init_scale;
  return c.init_scale / std::sqrt(2.0 * static_cast<double>(c.blocks.size()));
}

std::unique_ptr<Mixer> MakeAttention(const TransformerConfig& c, int layer) {
  AttentionConfig attention;
  attention.d_model = c.d_model;
  attention.n_heads = c.n_heads;
  attention.n_kv_heads = c.n_kv_heads;
  attention.d_head = c.d_head;
  attention.bias = c.attention_bias;
  attention.scale =
      c.attention_scale > 0 ? c.attention_scale : 1 / std::sqrt(static_cast<double>(c.d_head));
  if (c.scale_by_layer) attention.scale /= layer + 1;
  if (c.positions == Positions::kRotary) {
    attention.rotary_dim = c.rotary_dim == 0 ? c.d_head : c.rotary_dim;
    attention.rotary_theta = c.rotary_theta;
    attention.rotary_interleaved = c.rotary_interleaved;
    attention.rotary_scaling = c.rotary_scaling;
  }
  attention.smeared_keys = c.smeared_keys;
  attention.alibi = c.positions == Positions::kAlibi;
  attention.dropout = c.attn_dropout;
  attention.init_scale = c.init_scale;
  attention.out_init_scale = OutInitScale(c);
  return std::make_unique<AttentionMixer>(attention);
}

std::unique_ptr<Mixer> MakeMlp(const TransformerConfig& c, int) {
  MlpConfig mlp;
  mlp.d_model = c.d_model;
  mlp.d_mlp = c.d_mlp;
  mlp.activation = c.activation;
  mlp.gated = c.gated_mlp;
  mlp.bias = c.mlp_bias;
  mlp.gate_bias = c.gate_bias;
  mlp.init_scale = c.init_scale;
  mlp.out_init_scale = OutInitScale(c);
  return std::make_unique<MlpMixer>(mlp);
}

// What `out_proj` of a state space starts at, times what it would.
double OutScale(const TransformerConfig& c) {
  if (!c.rescale_out_proj || c.blocks.empty()) return 1;
  return 1 / std::sqrt(static_cast<double>(c.blocks.size()));
}

MambaConfig MambaOf(const TransformerConfig& c) {
  MambaConfig mamba;
  mamba.d_model = c.d_model;
  mamba.d_inner = c.d_inner == 0 ? 2 * c.d_model : c.d_inner;
  if (c.d_state > 0) mamba.d_state = c.d_state;
  mamba.d_conv = c.d_conv;
  mamba.dt_rank = c.dt_rank == 0 ? (c.d_model + 15) / 16 : c.dt_rank;
  mamba.bias = c.mamba_bias;
  mamba.conv_bias = c.conv_bias;
  mamba.steps = c.steps;
  mamba.out_scale = OutScale(c);
  return mamba;
}

Mamba2Config Mamba2Of(const TransformerConfig& c) {
  Mamba2Config mamba;
  mamba.d_model = c.d_model;
  mamba.d_inner = c.d_inner == 0 ? 2 * c.d_model : c.d_inner;
  if (c.d_state > 0) mamba.d_state = c.d_state;
  mamba.d_conv = c.d_conv;
  if (c.mamba_d_head > 0) mamba.d_head = c.mamba_d_head;
  mamba.n_groups = c.mamba_groups;
  mamba.bias = c.mamba_bias;
  mamba.conv_bias = c.conv_bias;
  mamba.eps = c.eps;
  mamba.dt_low = c.dt_low;
  if (c.dt_high > 0) mamba.dt_high = c.dt_high;
  mamba.steps = c.steps;
  mamba.out_scale = OutScale(c);
  return mamba;
}

std::unique_ptr<Mixer> MakeMamba(const TransformerConfig& c, int) {
  return std::make_unique<MambaMixer>(MambaOf(c));
}

std::unique_ptr<Mixer> MakeMamba2(const TransformerConfig& c, int) {
  return std::make_unique<Mamba2Mixer>(Mamba2Of(c));
}

S4Config S4Of(const TransformerConfig& c, S4Kind kind, int layer) {
  S4Config s4;
  s4.d_model = c.d_model;
  if (c.d_state > 0) s4.d_state = c.d_state;
  s4.kind = kind;
  s4.init = c.s4_init;
  s4.discretization = c.s4_discretization;
  s4.length = c.s4_length == 0 ? c.n_ctx : c.s4_length;
  s4.dt_min = c.steps.min;
  s4.dt_max = c.steps.max;
  s4.bidirectional = c.s4_bidirectional;
  s4.reverse_from_next = c.s4_reverse_from_next;
  s4.gated = c.s4_gated;
  s4.learn_state = c.s4_learn_state;
  s4.dropout = c.s4_dropout;
  s4.layer = layer;
  return s4;
}

template <S4Kind kind>
std::unique_ptr<Mixer> MakeS4(const TransformerConfig& c, int layer) {
  return std::make_unique<S4Mixer>(S4Of(c, kind, layer));
}

// What `blocks` may name, and what such a mixer is called within its block.
struct MixerKind {
  const char* name;
  const char* child;
  const char* out_name;
  std::unique_ptr<Mixer> (*make)(const TransformerConfig& c, int layer);
};
constexpr MixerKind kMixers[] = {
    {"attn", "attn", "hook_attn_out", MakeAttention},
    {"mlp", "mlp", "hook_mlp_out", MakeMlp},
    {"mamba", "mixer", "hook_mixer_out", MakeMamba},
    {"mamba2", "mixer", "hook_mixer_out", MakeMamba2},
    {"s4", "mixer", "hook_mixer_out", MakeS4<S4Kind::kS4>},
    {"s4d", "mixer", "hook_mixer_out", MakeS4<S4Kind::kS4D>},
    {"dss", "mixer", "hook_mixer_out", MakeS4<S4Kind::kDss>},
};

const MixerKind* FindMixer(const std::string& name) {
  for (const MixerKind& kind : kMixers) {
    if (name == kind.name) return &kind;
  }
  return nullptr;
}

std::string MixerNames() {
  std::vector<std::string> names;
  for (const MixerKind& kind : kMixers) names.push_back(absl::StrCat("'", kind.name, "'"));
  return absl::StrCat("one of ", absl::StrJoin(names, ", "));
}

}  // namespace

std::optional<Activation> ActivationFromName(absl::string_view name) {
  for (const ActivationEntry& entry : kActivations) {
    if (name == entry.name) return entry.activation;
  }
  return std::nullopt;
}

const char* ActivationName(Activation activation) {
  for (const ActivationEntry& entry : kActivations) {
    if (activation == entry.activation) return entry.name;
  }
  return "none";
}

std::vector<std::string> ActivationNames() {
  std::vector<std::string> names;
  for (const ActivationEntry& entry : kActivations) names.push_back(entry.name);
  return names;
}

std::optional<Positions> PositionsFromName(absl::string_view name) {
  for (const PositionsEntry& entry : kPositions) {
    if (name == entry.name) return entry.positions;
  }
  return std::nullopt;
}

const char* PositionsName(Positions positions) {
  for (const PositionsEntry& entry : kPositions) {
    if (positions == entry.positions) return entry.name;
  }
  return "none";
}

std::vector<std::string> PositionsNames() {
  std::vector<std::string> names;
  for (const PositionsEntry& entry : kPositions) names.push_back(entry.name);
  return names;
}

namespace {

absl::Status CheckRotaryScaling(const RotaryScaling& s) {
  if (s.kind == RotaryScaling::kNone) return absl::OkStatus();
  if (!(s.factor >= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'rotary_factor' is ", s.factor, ", expected a number of at least 1"));
  }
  if (s.kind != RotaryScaling::kLlama3) return absl::OkStatus();
  if (!(s.low_freq_factor > 0 && s.high_freq_factor > s.low_freq_factor)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'rotary_high_freq_factor' is ", s.high_freq_factor, ", expected more than ",
                     "'rotary_low_freq_factor', ", s.low_freq_factor));
  }
  return CheckRange("rotary_original_ctx", s.original_ctx, 1, TransformerConfig::kMaxContext);
}

}  // namespace

namespace {

absl::Status CheckMamba(const TransformerConfig& c, bool second) {
  using C = TransformerConfig;
  const int64_t d_inner = c.d_inner == 0 ? 2 * c.d_model : c.d_inner;
  RESIDUAL_RETURN_IF_ERROR(CheckRange("d_inner", d_inner, 1, 4 * C::kMaxWidth));
  RESIDUAL_RETURN_IF_ERROR(CheckRange("d_state", c.d_state, 0, C::kMaxState));
  RESIDUAL_RETURN_IF_ERROR(CheckRange("d_conv", c.d_conv, 1, C::kMaxState));
  const StepInit& steps = c.steps;
  if (!(steps.min > 0 && steps.min <= steps.max && steps.max < 1e6)) {
    return absl::InvalidArgumentError(absl::StrCat("'dt_min' is ", steps.min,
                                                   ", expected a number in (0, dt_max], ",
                                                   "'dt_max' being ", steps.max));
  }
  if (!(steps.floor > 0 && steps.floor < 1e6)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'dt_floor' is ", steps.floor, ", expected a number above 0"));
  }
  if (!second) return CheckRange("dt_rank", c.dt_rank, 0, C::kMaxWidth);
  const int64_t d_head = Mamba2Of(c).d_head, heads = d_inner / d_head;
  if (d_inner % d_head != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("'mamba_d_head' is ", d_head, ", expected a divisor of d_inner, ", d_inner));
  }
  RESIDUAL_RETURN_IF_ERROR(CheckRange("mamba_groups", c.mamba_groups, 1, heads));
  if (heads % c.mamba_groups != 0) {
    return absl::InvalidArgumentError(absl::StrCat("'mamba_groups' is ", c.mamba_groups,
                                                   ", expected a divisor of the ", heads,
                                                   " heads of d_inner and mamba_d_head"));
  }
  if (c.dt_high != 0 && !(c.dt_high > c.dt_low && c.dt_low >= 0)) {
    return absl::InvalidArgumentError(absl::StrCat("'dt_high' is ", c.dt_high,
                                                   ", expected more than dt_low, ", c.dt_low,
                                                   ", or 0 for no limit"));
  }
  return absl::OkStatus();
}

absl::Status CheckS4(const TransformerConfig& c, const std::string& mixer) {
  const S4Kind kind = mixer == "s4" ? S4Kind::kS4 : mixer == "s4d" ? S4Kind::kS4D : S4Kind::kDss;
  const S4Config s4 = S4Of(c, kind, 0);
  RESIDUAL_RETURN_IF_ERROR(CheckRange("s4_length", s4.length, 0, TransformerConfig::kMaxContext));
  RESIDUAL_RETURN_IF_ERROR(ValidateS4Config(s4));
  if (kind != S4Kind::kS4D && (c.n_ctx == 0 || c.n_ctx > s4.length)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'n_ctx' is ", c.n_ctx, ", expected an integer in [1, ", s4.length,
                     "], 's4_length': the parameters of ", mixer, " are for sequences up to it"));
  }
  return absl::OkStatus();
}

// Parameters of one mixer, about.
double SizeOf(const TransformerConfig& c, const std::string& mixer) {
  const double d_model = static_cast<double>(c.d_model);
  if (mixer == "attn") return 4.0 * d_model * static_cast<double>(c.n_heads * c.d_head);
  if (mixer == "mlp") return (c.gated_mlp ? 3.0 : 2.0) * d_model * static_cast<double>(c.d_mlp);
  if (mixer != "mamba" && mixer != "mamba2") {
    return d_model * (2 * d_model + 8 * static_cast<double>(c.d_state == 0 ? 64 : c.d_state));
  }
  const MambaConfig m = MambaOf(c);
  const double inner = static_cast<double>(m.d_inner), state = static_cast<double>(m.d_state);
  if (mixer == "mamba") {
    return inner * (3 * d_model + 2 * static_cast<double>(m.dt_rank) + 3 * state);
  }
  return inner * 3 * d_model + 2 * static_cast<double>(c.mamba_groups) * state * d_model;
}

}  // namespace

absl::Status ValidateTransformerConfig(const TransformerConfig& c) {
  using C = TransformerConfig;
  RESIDUAL_RETURN_IF_ERROR(CheckRange("d_model", c.d_model, 1, C::kMaxWidth));
  RESIDUAL_RETURN_IF_ERROR(CheckRange("d_vocab", c.d_vocab, 1, C::kMaxVocabulary));
  // Without a table of positions there may be no end.
  const int64_t least_ctx = c.positions == Positions::kNone ? 0 : 1;
  RESIDUAL_RETURN_IF_ERROR(CheckRange("n_ctx", c.n_ctx, least_ctx, C::kMaxContext));
  RESIDUAL_RETURN_IF_ERROR(
      CheckRange("n_layers", static_cast<int64_t>(c.blocks.size()), 0, C::kMaxLayers));
  bool attention = false, mlp = false, mamba = false, mamba2 = false;
  for (const auto& mixers : c.blocks) {
    if (mixers.empty()) return absl::InvalidArgumentError("'blocks' has a block without a mixer");
    std::set<std::string> seen;
    for (const std::string& mixer : mixers) {
      const MixerKind* kind = FindMixer(mixer);
      if (kind == nullptr) {
        return absl::InvalidArgumentError(
            absl::StrCat("'blocks' names the mixer '", mixer, "', expected ", MixerNames()));
      }
      if (!seen.insert(kind->child).second) {
        return absl::InvalidArgumentError(
            absl::StrCat("'blocks' has '", kind->child, "' twice in one block"));
      }
      attention |= mixer == "attn";
      mlp |= mixer == "mlp";
      mamba |= mixer == "mamba";
      mamba2 |= mixer == "mamba2";
      if (kind->child == std::string("mixer") && mixer != "mamba" && mixer != "mamba2") {
        RESIDUAL_RETURN_IF_ERROR(CheckS4(c, mixer));
      }
    }
  }
  if (attention) {
    RESIDUAL_RETURN_IF_ERROR(CheckRange("n_heads", c.n_heads, 1, C::kMaxWidth));
    RESIDUAL_RETURN_IF_ERROR(CheckRange("d_head", c.d_head, 1, C::kMaxWidth));
    RESIDUAL_RETURN_IF_ERROR(CheckRange("n_heads * d_head", c.n_heads * c.d_head, 1, C::kMaxWidth));
    const int64_t kv = c.n_kv_heads == 0 ? c.n_heads : c.n_kv_heads;
    RESIDUAL_RETURN_IF_ERROR(CheckRange("n_kv_heads", kv, 1, c.n_heads));
    if (c.n_heads % kv != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("'n_kv_heads' is ", kv, ", expected a divisor of n_heads, ", c.n_heads));
    }
    if (c.positions == Positions::kRotary) {
      const int64_t dim = c.rotary_dim == 0 ? c.d_head : c.rotary_dim;
      RESIDUAL_RETURN_IF_ERROR(CheckRange("rotary_dim", dim, 2, c.d_head));
      if (dim % 2 != 0) {
        return absl::InvalidArgumentError(
            absl::StrCat("'rotary_dim' is ", dim, ", expected an even number"));
      }
      RESIDUAL_RETURN_IF_ERROR(CheckRotaryScaling(c.rotary_scaling));
    }
  }
  if (mlp) RESIDUAL_RETURN_IF_ERROR(CheckRange("d_mlp", c.d_mlp, 1, C::kMaxWidth * 4));
  if (mamba) RESIDUAL_RETURN_IF_ERROR(CheckMamba(c, false));
  if (mamba2) RESIDUAL_RETURN_IF_ERROR(CheckMamba(c, true));
  if (!(c.eps > 0 && c.eps < 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'eps' is ", c.eps, ", expected a number in (0, 1)"));
  }
  RESIDUAL_RETURN_IF_ERROR(CheckProbability("embed_dropout", c.embed_dropout));
  RESIDUAL_RETURN_IF_ERROR(CheckProbability("resid_dropout", c.resid_dropout));
  RESIDUAL_RETURN_IF_ERROR(CheckProbability("attn_dropout", c.attn_dropout));

  double parameters = (2.0 * c.d_vocab + c.n_ctx) * c.d_model;
  for (const auto& mixers : c.blocks) {
    for (const std::string& mixer : mixers) parameters += SizeOf(c, mixer);
  }
  if (parameters > 0x1p40) {
    return absl::InvalidArgumentError(absl::StrCat("the sizes make a model of ", parameters,
                                                   " parameters, expected at most 2^40"));
  }
  return absl::OkStatus();
}

std::vector<Block> BuildBlocks(const TransformerConfig& c) {
  const absl::Status valid = ValidateTransformerConfig(c);
  RESIDUAL_CHECK(valid.ok()) << valid.message();
  std::vector<Block> blocks;
  for (size_t layer = 0; layer < c.blocks.size(); ++layer) {
    std::vector<Branch> branches;
    for (const std::string& name : c.blocks[layer]) {
      const MixerKind& kind = *FindMixer(name);
      branches.push_back({kind.child, branches.empty() ? "ln1" : "ln2", kind.out_name,
                          kind.make(c, static_cast<int>(layer)), Norm(c.norm, c.d_model, c.eps)});
    }
    blocks.emplace_back(std::move(branches), c.norm_placement, c.parallel, c.resid_dropout);
  }
  return blocks;
}

std::unique_ptr<ResidualModel> BuildTransformer(const TransformerConfig& c) {
  EmbedOptions embed;
  embed.d_vocab = c.d_vocab;
  embed.d_model = c.d_model;
  embed.n_ctx = c.n_ctx;
  embed.positions = c.positions;
  embed.init_scale = c.init_scale;
  embed.dropout = c.embed_dropout;

  std::vector<Block> blocks = BuildBlocks(c);
  UnembedOptions unembed;
  unembed.d_vocab = c.d_vocab;
  unembed.d_model = c.d_model;
  unembed.tied = c.tied;
  unembed.bias = c.unembed_bias;
  unembed.init_scale = c.init_scale;
  return std::make_unique<ResidualModel>(
      Embed(embed), std::move(blocks),
      Norm(c.final_norm ? c.norm : NormKind::kNone, c.d_model, c.eps), Unembed(unembed), c.n_ctx);
}

}  // namespace residual
