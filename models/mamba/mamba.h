// Mamba (Gu and Dao 2023): a gated state space whose step, input and output depend on what is read,
// as a mixer on the stream.

#ifndef RESIDUAL_MODELS_MAMBA_MAMBA_H_
#define RESIDUAL_MODELS_MAMBA_MAMBA_H_

#include <cstdint>
#include <memory>

#include "models/mamba/mamba_parts.h"
#include "models/stream/mixer.h"

namespace residual {

struct MambaConfig {
  int64_t d_model = 0;
  int64_t d_inner = 0;  // channels of the state space; 0: 2 d_model
  int64_t d_state = 16;
  int64_t d_conv = 4;   // taps of the convolution
  int64_t dt_rank = 0;  // of what makes the steps; 0: ceil(d_model / 16)
  bool bias = false;    // of in_proj and out_proj
  bool conv_bias = true;
  StepInit steps;        // at the start
  double out_scale = 1;  // of out_proj at the start; the paper's: 1 / sqrt(n_layers)
};

// Padding (context.key_mask) before a sequence is not seen: x is 0 there before in_proj, the
// convolution's input and output are 0, so nothing is written to the state. (Hugging Face's lets
// the bias of in_proj, where there is one, through to the first d_conv - 1 tokens.)
class MambaMixer : public Mixer {
 public:
  static constexpr HookPoint kInProj{"hook_in_proj", "[batch, pos, 2 * d_inner]"};
  // After SiLU.
  static constexpr HookPoint kConv{"hook_conv", "[batch, pos, d_inner]"};
  // After softplus.
  static constexpr HookPoint kDelta{"hook_delta", "[batch, pos, d_inner]"};
  static constexpr HookPoint kB{"hook_B", "[batch, pos, d_state]"};
  static constexpr HookPoint kC{"hook_C", "[batch, pos, d_state]", true};
  // What a position adds to the state; an edit goes on to later positions.
  static constexpr HookPoint kWrite{"hook_write", "[batch, pos, d_inner, d_state]"};
  // The state after a position; an edit changes what is read there, y, and nothing later.
  static constexpr HookPoint kState{"hook_state", "[batch, pos, d_inner, d_state]", true};
  // C h + D x, before the gate.
  static constexpr HookPoint kY{"hook_y", "[batch, pos, d_inner]", true};
  // z, before SiLU.
  static constexpr HookPoint kGate{"hook_gate", "[batch, pos, d_inner]", true};
  static constexpr HookPoint kOut{"hook_out", "[batch, pos, d_model]", true};

  explicit MambaMixer(const MambaConfig& config);

  void Describe(Visitor& v) override;
  Tensor Forward(const Tensor& x, const MixerContext& context, MixerState* state,
                 const Scope& hook) const override;
  std::unique_ptr<MixerState> NewState(int64_t batch) const override;

  // The hidden attention of the scan (Ali, Zimerman and Wolf 2024), without D and the gate: of
  // every channel.
  TokenMapKind token_map_kind() const override {
    return {'C', config_.d_inner, /*weights=*/false, {kDelta, kB, kC}};
  }
  Tensor TokenMaps(absl::Span<const Tensor> made_of,
                   absl::Span<const int64_t> units) const override;
  Retention MemoryOf(absl::Span<const Tensor> made_of) const override;

  const MambaConfig& config() const { return config_; }
  const Tensor& A_log() const { return A_log_; }      // [d_inner, d_state]
  const Tensor& D() const { return D_; }              // [d_inner]
  const Tensor& conv() const { return conv_; }        // [d_inner, 1, d_conv]
  const Tensor& dt_bias() const { return dt_bias_; }  // [d_inner]

 private:
  MambaConfig config_;
  // [d_model, 2 d_inner], [d_inner, dt_rank + 2 d_state], [dt_rank, d_inner], [d_inner, d_model]
  Weight in_proj_, x_proj_, dt_proj_, out_proj_;
  Tensor in_bias_, conv_, conv_bias_, dt_bias_, A_log_, D_, out_bias_;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_MAMBA_MAMBA_H_
