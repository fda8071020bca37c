// The two-layer perceptron of a transformer block, as a mixer on the stream:
//   out = act(x W_in + b_in) W_out + b_out                       (Vaswani et al. 2017, eq. 2)
//   out = (act(x W_gate + b_gate) * (x W_in + b_in)) W_out + b_out    gated (Shazeer 2020)

#ifndef RESIDUAL_MODELS_MLP_MLP_H_
#define RESIDUAL_MODELS_MLP_MLP_H_

#include <cstdint>

#include "models/stream/mixer.h"
#include "ops/elementwise/elementwise.h"

namespace residual {

struct MlpConfig {
  int64_t d_model = 0;
  int64_t d_mlp = 0;
  Activation activation = Activation::kGeluTanh;
  bool gated = false;
  bool bias = true;
  bool gate_bias = false;  // gated only
  double init_scale = 0.02;
  double out_init_scale = 0;  // 0: init_scale
};

class MlpMixer : public Mixer {
 public:
  static constexpr HookPoint kPre{"hook_pre", "[batch, pos, d_mlp]"};
  static constexpr HookPoint kPreLinear{"hook_pre_linear", "[batch, pos, d_mlp]"};  // gated only
  static constexpr HookPoint kPost{"hook_post", "[batch, pos, d_mlp]"};

  explicit MlpMixer(const MlpConfig& config);

  void Describe(Visitor& v) override;
  Tensor Forward(const Tensor& x, const MixerContext& context, MixerState* state,
                 const Scope& hook) const override;

  const MlpConfig& config() const { return config_; }
  const Tensor& W_in() const { return W_in_; }      // [d_model, d_mlp]
  const Tensor& W_gate() const { return W_gate_; }  // [d_model, d_mlp]; undefined unless gated
  const Tensor& W_out() const { return W_out_; }    // [d_mlp, d_model]
  const Tensor& b_gate() const { return b_gate_; }  // [d_mlp]; undefined without gate_bias
  const Tensor& b_in() const { return b_in_; }
  const Tensor& b_out() const { return b_out_; }

 private:
  MlpConfig config_;
  Weight W_in_, W_gate_, W_out_;
  Tensor b_gate_, b_in_, b_out_;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_MLP_MLP_H_
