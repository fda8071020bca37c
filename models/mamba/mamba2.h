// Mamba-2 (Dao and Gu 2024): one rate of forgetting for each head, so that the state can be large
// and most of the work is matrix products; as a mixer on the stream.

#ifndef RESIDUAL_MODELS_MAMBA_MAMBA2_H_
#define RESIDUAL_MODELS_MAMBA_MAMBA2_H_

#include <cstdint>
#include <limits>
#include <memory>

#include "models/mamba/mamba_parts.h"
#include "models/stream/mixer.h"

namespace residual {

struct Mamba2Config {
  int64_t d_model = 0;
  int64_t d_inner = 0;  // 0: 2 d_model
  int64_t d_state = 128;
  int64_t d_conv = 4;    // taps of the convolution
  int64_t d_head = 64;   // a divisor of d_inner
  int64_t n_groups = 1;  // of heads that share B and C; a divisor of the number of heads
  bool bias = false;     // of in_proj and out_proj
  bool conv_bias = true;
  double eps = 1e-5;  // of the gated norm
  // Steps are no less and no more than these.
  double dt_low = 0, dt_high = std::numeric_limits<double>::infinity();
  StepInit steps;        // at the start
  double out_scale = 1;  // of out_proj at the start
};

// Padding is not seen, as MambaMixer says.
class Mamba2Mixer : public Mixer {
 public:
  // z, x, B, C, dt.
  static constexpr HookPoint kInProj{
      "hook_in_proj", "[batch, pos, 2 * d_inner + 2 * n_groups * d_state + n_heads]"};
  // x, B, C after SiLU.
  static constexpr HookPoint kConv{"hook_conv", "[batch, pos, d_inner + 2 * n_groups * d_state]"};
  // After softplus and limits.
  static constexpr HookPoint kDelta{"hook_delta", "[batch, pos, n_heads]"};
  static constexpr HookPoint kB{"hook_B", "[batch, pos, n_groups, d_state]"};
  static constexpr HookPoint kC{"hook_C", "[batch, pos, n_groups, d_state]", true};
  // What a position adds to the state; an edit goes on to later positions.
  static constexpr HookPoint kWrite{"hook_write", "[batch, pos, n_heads, d_head, d_state]"};
  // The state after a position; an edit changes what is read there, y, and nothing later.
  static constexpr HookPoint kState{"hook_state", "[batch, pos, n_heads, d_head, d_state]", true};
  // C h + D x, before gate and norm.
  static constexpr HookPoint kY{"hook_y", "[batch, pos, n_heads, d_head]", true};
  // z, before SiLU.
  static constexpr HookPoint kGate{"hook_gate", "[batch, pos, d_inner]", true};
  static constexpr HookPoint kOut{"hook_out", "[batch, pos, d_model]", true};

  explicit Mamba2Mixer(const Mamba2Config& config);

  void Describe(Visitor& v) override;
  Tensor Forward(const Tensor& x, const MixerContext& context, MixerState* state,
                 const Scope& hook) const override;
  std::unique_ptr<MixerState> NewState(int64_t batch) const override;

  // The hidden attention of the scan, without D and the gate: of every head, whose channels share
  // it.
  TokenMapKind token_map_kind() const override {
    return {'H', n_heads(), /*weights=*/false, {kDelta, kB, kC}};
  }
  Tensor TokenMaps(absl::Span<const Tensor> made_of,
                   absl::Span<const int64_t> units) const override;
  Retention MemoryOf(absl::Span<const Tensor> made_of) const override;

  const Mamba2Config& config() const { return config_; }
  int64_t n_heads() const { return config_.d_inner / config_.d_head; }

 private:
  // A, the same for every dimension of a head's state: [n_heads, d_state].
  Tensor RatesOfState() const;
  // Channels of the convolution: x, B and C.
  int64_t conv_channels() const { return config_.d_inner + 2 * config_.n_groups * config_.d_state; }

  Mamba2Config config_;
  Weight in_proj_, out_proj_;
  Tensor in_bias_, conv_, conv_bias_, dt_bias_, A_log_, D_, norm_, out_bias_;
};

// x, but no less than low and no more than high; no gradient comes from beyond. f32 or f64.
Tensor Clamp(const Tensor& x, double low, double high);

}  // namespace residual

#endif  // RESIDUAL_MODELS_MAMBA_MAMBA2_H_
