// The norms on the stream, with their hook points.

#ifndef RESIDUAL_MODELS_NN_NORM_H_
#define RESIDUAL_MODELS_NN_NORM_H_

#include <cstdint>

#include "models/nn/hook.h"
#include "models/nn/module.h"
#include "tensor/core/tensor.h"

namespace residual {

enum class NormKind { kNone, kLayerNorm, kRmsNorm };

// LayerNorm (Ba et al. 2016): y = (x - mean) / sqrt(var + eps) * w + b over the last axis.
// RMSNorm (Zhang and Sennrich 2019): y = x / sqrt(mean(x^2) + eps) * w.
class Norm : public Module {
 public:
  // What the norm reads: an edit changes that and not the stream.
  static constexpr HookPoint kIn{"hook_in", "[batch, pos, d_model]"};
  // x / scale before gain and bias, as TransformerLens 4 has it; the scale is the denominator.
  static constexpr HookPoint kScale{"hook_scale", "[batch, pos, 1]"};
  static constexpr HookPoint kNormalized{"hook_normalized", "[batch, pos, d_model]"};
  static constexpr HookPoint kOut{"hook_out", "[batch, pos, d_model]"};

  Norm() = default;
  Norm(NormKind kind, int64_t d_model, double eps) : kind_(kind), d_model_(d_model), eps_(eps) {}

  void Describe(Visitor& v) override;

  // input: [batch, pos, d_model]. kNone gives the input itself and fires nothing.
  Tensor Forward(const Tensor& input, const Scope& hook) const;

  NormKind kind() const { return kind_; }
  double eps() const { return eps_; }
  // The gain and bias, [d_model]; the bias is undefined for RMSNorm.
  const Tensor& w() const { return w_; }
  const Tensor& b() const { return b_; }

 private:
  NormKind kind_ = NormKind::kNone;
  int64_t d_model_ = 0;
  double eps_ = 1e-5;
  Tensor w_, b_;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_NN_NORM_H_
