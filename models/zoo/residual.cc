// Our own configs: "model_type": "residual", the fields of TransformerConfig by name, and the
// mixers of every block. Parameters lie in files under their own names, heads first.

#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "models/transformer/transformer.h"
#include "models/zoo/architectures.h"
#include "models/zoo/transformer_parts.h"
#include "models/zoo/zoo.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

using C = TransformerConfig;
using nlohmann::json;

template <class T>
struct Choice {
  const char* name;
  T value;
};
constexpr Choice<NormKind> kNorms[] = {{"layer_norm", NormKind::kLayerNorm},
                                       {"rms_norm", NormKind::kRmsNorm},
                                       {"none", NormKind::kNone}};
constexpr Choice<RotaryScaling::Kind> kScalings[] = {{"none", RotaryScaling::kNone},
                                                     {"linear", RotaryScaling::kLinear},
                                                     {"llama3", RotaryScaling::kLlama3}};
constexpr Choice<Discretization> kDiscretizations[] = {{"zoh", Discretization::kZoh},
                                                       {"bilinear", Discretization::kBilinear}};
constexpr Choice<S4Init> kS4Inits[] = {
    {"legs", S4Init::kLegS}, {"legt", S4Init::kLegT},     {"fourier", S4Init::kFourier},
    {"lin", S4Init::kLin},   {"inv", S4Init::kInv},       {"quad", S4Init::kQuad},
    {"real", S4Init::kReal}, {"random", S4Init::kRandom}, {"random_lin", S4Init::kRandomLin}};
constexpr Choice<NormPlacement> kPlacements[] = {{"pre", NormPlacement::kPre},
                                                 {"post", NormPlacement::kPost}};

// Every field, once: for reading and for writing.
template <class Config, class Visitor>
void VisitFields(Config& c, Visitor&& v) {
  v.Int("d_model", c.d_model, 1, C::kMaxWidth);
  v.Int("n_ctx", c.n_ctx, 1, C::kMaxContext);
  v.Int("d_vocab", c.d_vocab, 1, C::kMaxVocabulary);
  v.Blocks("blocks", c.blocks);
  v.Int("n_heads", c.n_heads, 0, C::kMaxWidth);
  v.Int("n_kv_heads", c.n_kv_heads, 0, C::kMaxWidth);
  v.Int("d_head", c.d_head, 0, C::kMaxWidth);
  v.Bool("attention_bias", c.attention_bias);
  v.Bool("scale_by_layer", c.scale_by_layer);
  v.Number("attention_scale", c.attention_scale, 0, 1e12);
  v.Bool("smeared_keys", c.smeared_keys);
  v.Int("d_mlp", c.d_mlp, 0, 4 * C::kMaxWidth);
  v.Activation("activation", c.activation);
  v.Bool("gated_mlp", c.gated_mlp);
  v.Bool("mlp_bias", c.mlp_bias);
  v.Bool("gate_bias", c.gate_bias);
  v.Int("d_inner", c.d_inner, 0, 4 * C::kMaxWidth);
  v.Int("d_state", c.d_state, 0, C::kMaxState);
  v.Int("d_conv", c.d_conv, 0, C::kMaxState);
  v.Bool("mamba_bias", c.mamba_bias);
  v.Bool("conv_bias", c.conv_bias);
  v.Number("dt_min", c.steps.min, 1e-12, 1e6);
  v.Number("dt_max", c.steps.max, 1e-12, 1e6);
  v.Number("dt_floor", c.steps.floor, 1e-12, 1e6);
  v.Bool("rescale_out_proj", c.rescale_out_proj);
  v.Int("dt_rank", c.dt_rank, 0, C::kMaxWidth);
  v.Int("mamba_d_head", c.mamba_d_head, 0, C::kMaxWidth);
  v.Int("mamba_groups", c.mamba_groups, 0, C::kMaxWidth);
  v.Number("dt_low", c.dt_low, 0, 1e6);
  v.Number("dt_high", c.dt_high, 0, 1e6);
  v.OneOf("s4_init", c.s4_init, kS4Inits);
  v.OneOf("s4_discretization", c.s4_discretization, kDiscretizations);
  v.Int("s4_length", c.s4_length, 0, C::kMaxContext);
  v.Bool("s4_gated", c.s4_gated);
  v.Bool("s4_learn_state", c.s4_learn_state);
  v.Bool("s4_bidirectional", c.s4_bidirectional);
  v.Bool("s4_reverse_from_next", c.s4_reverse_from_next);
  v.Number("s4_dropout", c.s4_dropout, 0, 1);
  v.OneOf("norm", c.norm, kNorms);
  v.OneOf("norm_placement", c.norm_placement, kPlacements);
  v.Bool("final_norm", c.final_norm);
  v.Number("eps", c.eps, 0, 1);
  v.Bool("parallel", c.parallel);
  v.Positions("positions", c.positions);
  v.Int("rotary_dim", c.rotary_dim, 0, C::kMaxWidth);
  v.Number("rotary_theta", c.rotary_theta, 1, 1e12);
  v.Bool("rotary_interleaved", c.rotary_interleaved);
  v.OneOf("rotary_scaling", c.rotary_scaling.kind, kScalings);
  v.Number("rotary_factor", c.rotary_scaling.factor, 1, 1e6);
  v.Number("rotary_low_freq_factor", c.rotary_scaling.low_freq_factor, 1e-6, 1e6);
  v.Number("rotary_high_freq_factor", c.rotary_scaling.high_freq_factor, 1e-6, 1e6);
  v.Int("rotary_original_ctx", c.rotary_scaling.original_ctx, 0, C::kMaxContext);
  v.Bool("tied", c.tied);
  v.Bool("unembed_bias", c.unembed_bias);
  v.Number("embed_dropout", c.embed_dropout, 0, 1);
  v.Number("resid_dropout", c.resid_dropout, 0, 1);
  v.Number("attn_dropout", c.attn_dropout, 0, 1);
  v.Number("init_scale", c.init_scale, 0, 1e6);
  v.Bool("scale_residual_init", c.scale_residual_init);
}

// What is missing keeps the value it has.
class FieldReader {
 public:
  explicit FieldReader(ConfigReader& config) : config_(config) {}

  void Int(const char* name, int64_t& value, int64_t low, int64_t high) {
    // A size of 0 stands for "not given"; one that has to be given is at least 1.
    value = low > 0 ? config_.Int(name, low, high) : config_.IntOr(name, value, low, high);
  }
  void Number(const char* name, double& value, double low, double high) {
    value = config_.NumberOr(name, value, low, high);
  }
  void Bool(const char* name, bool& value) { value = config_.BoolOr(name, value); }
  void Activation(const char* name, residual::Activation& value) {
    value = ReadActivation(config_, name, value);
  }
  void Positions(const char* name, residual::Positions& value) {
    value = config_.ChoiceOr<residual::Positions>(name, value, PositionsFromName, PositionsNames());
  }
  template <class T, size_t n>
  void OneOf(const char* name, T& value, const Choice<T> (&choices)[n]) {
    std::vector<std::string> names;
    for (const Choice<T>& choice : choices) names.push_back(choice.name);
    const auto parse = [&](absl::string_view text) -> std::optional<T> {
      for (const Choice<T>& choice : choices) {
        if (text == choice.name) return choice.value;
      }
      return std::nullopt;
    };
    value = config_.ChoiceOr<T>(name, value, parse, names);
  }
  void Blocks(const char* name, std::vector<std::vector<std::string>>& blocks) {
    static const json kMissing;
    const json* found = config_.Find(name);
    if (found == nullptr) found = &kMissing;
    const auto is_block = [](const json& block) {
      return block.is_array() && std::all_of(block.begin(), block.end(),
                                             [](const json& mixer) { return mixer.is_string(); });
    };
    if (!found->is_array() || !std::all_of(found->begin(), found->end(), is_block)) {
      config_.FailField(name, *found,
                        "a list of blocks, each a list of mixers: [[\"attn\", \"mlp\"], ...]");
    } else if (found->size() > C::kMaxLayers) {
      config_.FailField(name, *found, absl::StrCat("at most ", C::kMaxLayers, " blocks"));
    } else {
      blocks = found->get<std::vector<std::vector<std::string>>>();
    }
  }

 private:
  ConfigReader& config_;
};

class FieldWriter {
 public:
  void Int(const char* name, int64_t value, int64_t, int64_t) { written[name] = value; }
  void Number(const char* name, double value, double, double) { written[name] = value; }
  void Bool(const char* name, bool value) { written[name] = value; }
  void Activation(const char* name, residual::Activation value) {
    written[name] = ActivationName(value);
  }
  void Positions(const char* name, residual::Positions value) {
    written[name] = PositionsName(value);
  }
  template <class T, size_t n>
  void OneOf(const char* name, T value, const Choice<T> (&choices)[n]) {
    for (const Choice<T>& choice : choices) {
      if (value == choice.value) written[name] = choice.name;
    }
  }
  void Blocks(const char* name, const std::vector<std::vector<std::string>>& blocks) {
    written[name] = blocks;
  }

  json written;
};

bool Holds(const C& c, const char* mixer) {
  for (const auto& mixers : c.blocks) {
    for (const std::string& name : mixers) {
      if (name == mixer) return true;
    }
  }
  return false;
}

// What a config may say besides, which is no part of the model.
const std::set<std::string>& Besides() {
  static const auto* fields = new std::set<std::string>{
      "model_type",   "architectures",        "name",           "notes", "training",
      "tokenizer",    "transformers_version", "torch_dtype",    "dtype", "bos_token_id",
      "eos_token_id", "pad_token_id",         "tokenizer_class"};
  return *fields;
}

}  // namespace

absl::StatusOr<TransformerConfig> ReadResidual(ConfigReader& config) {
  C c;
  VisitFields(c, FieldReader(config));
  config.FailOnUnreadKeys(Besides());
  RESIDUAL_RETURN_IF_ERROR(config.status());
  if (Holds(c, "attn") && c.d_head == 0 && c.n_heads > 0) {
    if (c.d_model % c.n_heads != 0) {
      config.FailField("n_heads", c.n_heads,
                       absl::StrCat("a divisor of 'd_model', ", c.d_model, ", or a 'd_head'"));
    }
    c.d_head = c.d_model / c.n_heads;
  }
  if (Holds(c, "mlp") && c.d_mlp == 0) c.d_mlp = 4 * c.d_model;
  RESIDUAL_RETURN_IF_ERROR(config.status());
  return c;
}

absl::StatusOr<BuiltModel> BuildResidual(ConfigReader& config) {
  RESIDUAL_ASSIGN_OR_RETURN(const TransformerConfig c, ReadResidual(config));
  BuiltModel built;
  RESIDUAL_ASSIGN_OR_RETURN(built.model, TransformerOf(c, config));
  built.names.emplace_back();
  return built;
}

json ConfigToJson(const TransformerConfig& config) {
  FieldWriter writer;
  writer.written["model_type"] = "residual";
  VisitFields(config, writer);
  return writer.written;
}

}  // namespace residual
