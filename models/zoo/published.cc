// Which published architecture a transformer of our own is, if any. Each form below is the inverse
// of that architecture's reader.

#include <algorithm>
#include <cmath>

#include "models/zoo/architectures.h"
#include "models/zoo/zoo.h"

namespace residual {
namespace {

using C = TransformerConfig;
using nlohmann::json;

// What all have: blocks of these mixers, pre-norm, one output matrix.
bool IsCommon(const C& c, const std::vector<std::string>& block) {
  return !c.blocks.empty() &&
         std::all_of(c.blocks.begin(), c.blocks.end(), [&](const auto& b) { return b == block; }) &&
         c.norm_placement == NormPlacement::kPre && c.final_norm && !c.unembed_bias &&
         !c.rotary_interleaved && !c.smeared_keys;
}

bool HeadsFillTheStream(const C& c) {
  return c.n_heads * c.d_head == c.d_model && (c.n_kv_heads == 0 || c.n_kv_heads == c.n_heads);
}

bool IsGpt2(const C& c) {
  const bool scale = c.attention_scale == 0 || c.attention_scale == 1;
  return c.positions == Positions::kLearned && c.norm == NormKind::kLayerNorm &&
         HeadsFillTheStream(c) && !c.gated_mlp && !c.parallel && c.attention_bias && c.mlp_bias &&
         scale;
}

bool IsLlama(const C& c) {
  const bool rotates_all = c.rotary_dim == 0 || c.rotary_dim == c.d_head;
  return c.positions == Positions::kRotary && rotates_all && c.norm == NormKind::kRmsNorm &&
         c.gated_mlp && !c.parallel && c.mlp_bias == c.gate_bias && c.attention_scale == 0 &&
         !c.scale_by_layer && c.embed_dropout == 0 && c.resid_dropout == 0;
}

bool IsGptNeox(const C& c) {
  return c.positions == Positions::kRotary && c.norm == NormKind::kLayerNorm &&
         HeadsFillTheStream(c) && !c.gated_mlp && c.mlp_bias && c.attention_scale == 0 &&
         !c.scale_by_layer && c.embed_dropout == c.resid_dropout;
}

bool IsMamba(const C& c, const char* mixer) {
  return IsCommon(c, {mixer}) && c.positions == Positions::kNone && c.norm == NormKind::kRmsNorm &&
         c.d_inner % c.d_model == 0 && c.embed_dropout == 0 && c.resid_dropout == 0;
}

json RopeParameters(const C& c) {
  json rope = {{"rope_type", "default"}, {"rope_theta", c.rotary_theta}};
  const RotaryScaling& s = c.rotary_scaling;
  if (s.kind != RotaryScaling::kNone) rope["factor"] = s.factor;
  if (s.kind == RotaryScaling::kLinear) rope["rope_type"] = "linear";
  if (s.kind == RotaryScaling::kLlama3) {
    rope.update({{"rope_type", "llama3"},
                 {"low_freq_factor", s.low_freq_factor},
                 {"high_freq_factor", s.high_freq_factor},
                 {"original_max_position_embeddings", s.original_ctx}});
  }
  return rope;
}

json Gpt2Form(const C& c) {
  return {{"model_type", "gpt2"},
          {"architectures", {"GPT2LMHeadModel"}},
          {"vocab_size", c.d_vocab},
          {"n_positions", c.n_ctx},
          {"n_embd", c.d_model},
          {"n_layer", c.blocks.size()},
          {"n_head", c.n_heads},
          {"n_inner", c.d_mlp},
          {"activation_function", ActivationName(c.activation)},
          {"layer_norm_epsilon", c.eps},
          {"scale_attn_weights", c.attention_scale == 0},
          {"scale_attn_by_inverse_layer_idx", c.scale_by_layer},
          {"tie_word_embeddings", c.tied},
          {"embd_pdrop", c.embed_dropout},
          {"attn_pdrop", c.attn_dropout},
          {"resid_pdrop", c.resid_dropout},
          {"initializer_range", c.init_scale}};
}

// What Llama's and GPT-NeoX's configs have in common.
json RotaryForm(const C& c) {
  return {{"vocab_size", c.d_vocab},
          {"max_position_embeddings", c.n_ctx},
          {"hidden_size", c.d_model},
          {"intermediate_size", c.d_mlp},
          {"num_hidden_layers", c.blocks.size()},
          {"num_attention_heads", c.n_heads},
          {"hidden_act", ActivationName(c.activation)},
          {"attention_bias", c.attention_bias},
          {"attention_dropout", c.attn_dropout},
          {"tie_word_embeddings", c.tied},
          {"initializer_range", c.init_scale},
          {"rope_parameters", RopeParameters(c)}};
}

json LlamaForm(const C& c) {
  json form = RotaryForm(c);
  form.update({{"model_type", "llama"},
               {"architectures", {"LlamaForCausalLM"}},
               {"num_key_value_heads", c.n_kv_heads == 0 ? c.n_heads : c.n_kv_heads},
               {"head_dim", c.d_head},
               {"rms_norm_eps", c.eps},
               {"mlp_bias", c.mlp_bias}});
  return form;
}

json GptNeoxForm(const C& c) {
  json form = RotaryForm(c);
  const int64_t rotated = c.rotary_dim == 0 ? c.d_head : c.rotary_dim;
  const double share = static_cast<double>(rotated) / static_cast<double>(c.d_head);
  form["rope_parameters"]["partial_rotary_factor"] = share;
  form.update({{"model_type", "gpt_neox"},
               {"architectures", {"GPTNeoXForCausalLM"}},
               {"layer_norm_eps", c.eps},
               {"use_parallel_residual", c.parallel},
               {"hidden_dropout", c.resid_dropout}});
  return form;
}

// What Mamba's and Mamba-2's configs have in common.
json StateSpaceForm(const C& c) {
  return {{"vocab_size", c.d_vocab},
          {"hidden_size", c.d_model},
          {"num_hidden_layers", c.blocks.size()},
          {"expand", c.d_inner == 0 ? 2 : c.d_inner / c.d_model},
          {"conv_kernel", c.d_conv},
          {"layer_norm_epsilon", c.eps},
          {"use_bias", c.mamba_bias},
          {"use_conv_bias", c.conv_bias},
          {"tie_word_embeddings", c.tied},
          {"initializer_range", c.init_scale},
          {"rescale_prenorm_residual", c.rescale_out_proj},
          {"time_step_min", c.steps.min},
          {"time_step_max", c.steps.max},
          {"time_step_floor", c.steps.floor}};
}

json MambaForm(const C& c) {
  json form = StateSpaceForm(c);
  form.update({{"model_type", "mamba"},
               {"architectures", {"MambaForCausalLM"}},
               {"state_size", c.d_state == 0 ? 16 : c.d_state},
               {"time_step_rank", c.dt_rank == 0 ? (c.d_model + 15) / 16 : c.dt_rank}});
  return form;
}

json Mamba2Form(const C& c) {
  json form = StateSpaceForm(c);
  const int64_t d_inner = c.d_inner == 0 ? 2 * c.d_model : c.d_inner;
  const int64_t d_head = c.mamba_d_head == 0 ? 64 : c.mamba_d_head;
  const json infinite = {{"__float__", "Infinity"}};
  form.update({{"model_type", "mamba2"},
               {"architectures", {"Mamba2ForCausalLM"}},
               {"state_size", c.d_state == 0 ? 128 : c.d_state},
               {"num_heads", d_inner / d_head},
               {"head_dim", d_head},
               {"n_groups", c.mamba_groups}});
  form["time_step_limit"] = json::array({c.dt_low, c.dt_high == 0 ? infinite : json(c.dt_high)});
  return form;
}

}  // namespace

json PublishedConfig(const json& config) {
  if (!config.is_object() || config.value("model_type", json()) != "residual") return config;
  ConfigReader reader(config, "config.json");
  const absl::StatusOr<TransformerConfig> c = ReadResidual(reader);
  if (!c.ok() || !ValidateTransformerConfig(*c).ok()) return config;
  if (IsMamba(*c, "mamba")) return MambaForm(*c);
  if (IsMamba(*c, "mamba2")) return Mamba2Form(*c);
  if (!IsCommon(*c, {"attn", "mlp"})) return config;
  if (IsGpt2(*c)) return Gpt2Form(*c);
  if (IsLlama(*c)) return LlamaForm(*c);
  if (IsGptNeox(*c)) return GptNeoxForm(*c);
  return config;
}

}  // namespace residual
