#include "models/nn/norm.h"

#include "ops/elementwise/elementwise.h"
#include "ops/layout/layout.h"
#include "ops/norm/norm.h"

namespace residual {

void Norm::Describe(Visitor& v) {
  if (kind_ == NormKind::kNone) return;
  v.Param("w", w_, {d_model_}, Init::Ones(), ParamOptions::NoDecay());
  if (kind_ == NormKind::kLayerNorm) {
    v.Param("b", b_, {d_model_}, Init::Zeros(), ParamOptions::NoDecay());
  }
  v.Hooks({kIn, kScale, kNormalized, kOut});
}

Tensor Norm::Forward(const Tensor& input, const Scope& hook) const {
  if (kind_ == NormKind::kNone) return input;
  const Tensor x = hook(kIn, input);
  const bool layer_norm = kind_ == NormKind::kLayerNorm;
  if (!hook.Wants(kScale, kNormalized)) {
    return hook(kOut, layer_norm ? LayerNorm(x, w_, b_, eps_) : RmsNorm(x, w_, eps_));
  }
  const NormParts parts = layer_norm ? LayerNormParts(x, eps_) : RmsNormParts(x, eps_);
  Tensor normalized = parts.normalized;
  if (hook.Wants(kScale)) {
    // Made from the denominator handed out: an edit of it takes effect, and its gradient is there.
    const Tensor centred = Mul(normalized, BroadcastTo(parts.scale, x.shape()));
    normalized = Div(centred, BroadcastTo(hook(kScale, parts.scale), x.shape()));
  }
  normalized = hook(kNormalized, normalized);
  Tensor y = Mul(normalized, w_);
  if (layer_norm) y = Add(y, b_);
  return hook(kOut, y);
}

}  // namespace residual
