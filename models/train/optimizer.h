// Optimizers over the parameters of a model.

#ifndef RESIDUAL_MODELS_TRAIN_OPTIMIZER_H_
#define RESIDUAL_MODELS_TRAIN_OPTIMIZER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "models/nn/module.h"
#include "tensor/core/tensor.h"

namespace residual {

enum class OptimizerKind { kAdamW, kAdam, kSgd };

struct OptimizerConfig {
  OptimizerKind kind = OptimizerKind::kAdamW;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;  // Adam, AdamW
  double momentum = 0;                            // SGD
  bool nesterov = false;
  // AdamW: decoupled (Loshchilov and Hutter 2019); Adam, SGD: added to the gradient. Only for
  // parameters whose Describe says so.
  double weight_decay = 0;
};

// "adamw", "adam", "sgd".
std::optional<OptimizerKind> OptimizerKindFromName(absl::string_view name);
const char* OptimizerKindName(OptimizerKind kind);
std::vector<std::string> OptimizerKindNames();

// Updates the parameters of one module and keeps the moments.
class Optimizer {
 public:
  Optimizer(const OptimizerConfig& config, Module& module);

  // One step at rate `lr` (times each parameter's lr_scale). grads: one per parameter, in the
  // order of Parameters(module); undefined: no gradient, the parameter stays. Every gradient is
  // first multiplied by `grad_scale` (clipping). The parameters must have no other handles.
  void Step(double lr, absl::Span<const Tensor> grads, double grad_scale);

  // The moments by name ("exp_avg.blocks.0.attn.W_Q"), for checkpoints.
  std::vector<std::pair<std::string, Tensor*>> State();

  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }
  const OptimizerConfig& config() const { return config_; }

 private:
  struct Slot {
    Parameter parameter;
    Tensor first, second;  // Adam: m and v; SGD: momentum in first
  };
  OptimizerConfig config_;
  std::vector<Slot> slots_;
  int64_t steps_ = 0;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_TRAIN_OPTIMIZER_H_
