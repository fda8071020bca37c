// Decoder transformers: attention-only models, GPT-2 and their relatives, as residual models.

#ifndef RESIDUAL_MODELS_TRANSFORMER_TRANSFORMER_H_
#define RESIDUAL_MODELS_TRANSFORMER_TRANSFORMER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "models/mamba/mamba_parts.h"
#include "models/s4/mixer/s4.h"
#include "models/stream/residual_model.h"
#include "ops/elementwise/elementwise.h"
#include "ops/rotary/rotary.h"

namespace residual {

struct TransformerConfig {
  // The largest sizes a config may ask for; d_mlp may be 4 * kMaxWidth.
  static constexpr int64_t kMaxWidth = int64_t{1} << 20;
  static constexpr int64_t kMaxLayers = int64_t{1} << 12;
  static constexpr int64_t kMaxVocabulary = int64_t{1} << 26;
  static constexpr int64_t kMaxContext = int64_t{1} << 26;
  static constexpr int64_t kMaxState = int64_t{1} << 12;  // and the taps of a convolution

  int64_t d_model = 0;
  int64_t n_ctx = 0;
  int64_t d_vocab = 0;

  // The mixers of each block, in order: "attn", "mlp", "mamba", "mamba2", "s4", "s4d", "dss".
  // {{"attn"}, {"attn"}} is a two-layer attention-only model; {{"mamba"}, {"attn", "mlp"}} a mixed
  // one.
  std::vector<std::vector<std::string>> blocks;

  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;  // 0: n_heads
  int64_t d_head = 0;
  bool attention_bias = true;
  bool scale_by_layer = false;  // scores of layer l are further divided by l + 1
  double attention_scale = 0;   // 0: 1 / sqrt(d_head)
  bool smeared_keys = false;    // keys mixed with those before them, see AttentionConfig

  int64_t d_mlp = 0;
  Activation activation = Activation::kGeluTanh;
  bool gated_mlp = false;
  bool mlp_bias = true;
  bool gate_bias = false;

  // Of "mamba" and "mamba2".
  int64_t d_inner = 0;  // channels of the state space; 0: 2 d_model
  int64_t d_state = 0;  // 0: 16 of "mamba", 128 of "mamba2", 64 of the others
  int64_t d_conv = 4;
  bool mamba_bias = false, conv_bias = true;
  StepInit steps;                // floor: of Mamba
  bool rescale_out_proj = true;  // at the start W_out is divided by sqrt(n_layers)
  int64_t dt_rank = 0;           // of "mamba"; 0: ceil(d_model / 16)
  int64_t mamba_d_head = 0;      // of "mamba2"; 0: 64
  int64_t mamba_groups = 1;
  double dt_low = 0, dt_high = 0;  // limits of the steps of "mamba2"; dt_high 0: none

  // Of "s4", "s4d" and "dss", see S4Config.
  S4Init s4_init = S4Init::kLegS;
  Discretization s4_discretization = Discretization::kZoh;
  int64_t s4_length = 0;  // 0: n_ctx
  bool s4_gated = true, s4_learn_state = true;
  bool s4_bidirectional = false, s4_reverse_from_next = false;
  double s4_dropout = 0;

  NormKind norm = NormKind::kLayerNorm;
  NormPlacement norm_placement = NormPlacement::kPre;
  bool final_norm = true;
  double eps = 1e-5;
  bool parallel = false;  // attention and MLP read the same stream

  Positions positions = Positions::kLearned;
  int64_t rotary_dim = 0;  // 0: d_head
  double rotary_theta = 10000;
  bool rotary_interleaved = false;
  RotaryScaling rotary_scaling;

  bool tied = false;  // unembedding = embedding transposed
  bool unembed_bias = true;

  // While training.
  double embed_dropout = 0, resid_dropout = 0, attn_dropout = 0;
  double init_scale = 0.02;
  bool scale_residual_init = false;  // GPT-2: W_O and W_out start at init_scale / sqrt(2 n_layers)
};

// InvalidArgument names the field, what was found and what is expected. Bounds the sizes, so that a
// model of a valid config has fewer than 2^40 parameters.
absl::Status ValidateTransformerConfig(const TransformerConfig& config);

// The blocks alone, for models that put something else around them. CHECKs a valid config.
std::vector<Block> BuildBlocks(const TransformerConfig& config);

// A model with parameters of no value yet: Initialize it or load a checkpoint.
std::unique_ptr<ResidualModel> BuildTransformer(const TransformerConfig& config);

// Names of config.json: "gelu_new", "relu", ... (Hugging Face's); nullopt if unknown.
std::optional<Activation> ActivationFromName(absl::string_view name);
const char* ActivationName(Activation activation);
std::vector<std::string> ActivationNames();

// "standard", "sinusoidal", "shortformer", "sinusoidal_qk", "rotary", "alibi", "none".
std::optional<Positions> PositionsFromName(absl::string_view name);
const char* PositionsName(Positions positions);
std::vector<std::string> PositionsNames();

}  // namespace residual

#endif  // RESIDUAL_MODELS_TRANSFORMER_TRANSFORMER_H_
