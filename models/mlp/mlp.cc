#include "models/mlp/mlp.h"

#include "models/nn/precision.h"

namespace residual {

MlpMixer::MlpMixer(const MlpConfig& config) : config_(config) {
  if (config_.out_init_scale == 0) config_.out_init_scale = config_.init_scale;
}

void MlpMixer::Describe(Visitor& v) {
  const MlpConfig& c = config_;
  v.Param("W_in", W_in_, {c.d_model, c.d_mlp}, Init::Normal(c.init_scale));
  if (c.gated) v.Param("W_gate", W_gate_, {c.d_model, c.d_mlp}, Init::Normal(c.init_scale));
  v.Param("W_out", W_out_, {c.d_mlp, c.d_model}, Init::Normal(c.out_init_scale));
  if (c.gated && c.gate_bias) {
    v.Param("b_gate", b_gate_, {c.d_mlp}, Init::Zeros(), ParamOptions::NoDecay());
  }
  if (c.bias) {
    v.Param("b_in", b_in_, {c.d_mlp}, Init::Zeros(), ParamOptions::NoDecay());
    v.Param("b_out", b_out_, {c.d_model}, Init::Zeros(), ParamOptions::NoDecay());
  }
  v.Hooks({kPre});
  if (c.gated) v.Hooks({kPreLinear});
  v.Hooks({kPost});
}

Tensor MlpMixer::Forward(const Tensor& x, const MixerContext& context, MixerState* state,
                         const Scope& hook) const {
  const Precision precision = context.precision;
  MatMulOptions in;
  in.bias = b_in_;
  Tensor post;  // narrow under bf16, as are the tensors it is made of
  if (config_.gated) {
    MatMulOptions gate;
    gate.bias = b_gate_;
    const Tensor pre = hook(kPre, Linear(x, W_gate_, precision, gate, true));
    const Tensor linear = hook(kPreLinear, Linear(x, W_in_, precision, in, true));
    post = config_.activation == Activation::kSilu ? SiluMul(pre, linear)
                                                   : Mul(Activate(pre, config_.activation), linear);
  } else if (hook.Wants(kPre)) {
    post = Activate(hook(kPre, Linear(x, W_in_, precision, in, true)), config_.activation);
  } else {
    in.activation = config_.activation;  // in the product's epilogue
    post = Linear(x, W_in_, precision, in, true);
  }
  post = hook(kPost, post);
  MatMulOptions out;
  out.bias = b_out_;
  return Linear(post, W_out_, precision, out);
}

}  // namespace residual
