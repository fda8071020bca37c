// Optimizers over the parameters of a model.

#ifndef RESIDUAL_MODELS_TRAIN_OPTIMIZER_H_
#define RESIDUAL_MODELS_TRAIN_OPTIMIZER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "models/nn/module.h"
#include "tensor/core/tensor.h"

namespace residual {

enum class OptimizerKind { kAdamW, kAdam, kSgd };

struct OptimizerConfig {
  OptimizerKind kind = OptimizerKind::kAdamW;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;  // Adam, AdamW
  bool amsgrad = false;                           // Adam, AdamW (Reddi et al. 2018)
  double momentum = 0, dampening = 0;             // SGD
  bool nesterov = false;                          // SGD with momentum
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
  // peak_lr: the highest rate of the run, which a parameter's most_lr is compared with.
  void Step(double lr, absl::Span<const Tensor> grads, double grad_scale, double peak_lr);
  void Step(double lr, absl::Span<const Tensor> grads, double grad_scale) {
    Step(lr, grads, grad_scale, lr);
  }

  // What the steps so far have left, by name ("exp_avg.blocks.0.attn.W_Q", "momentum_buffer.…"):
  // with the parameters and steps(), all that the next step depends on. Handles on the optimizer's
  // own tensors, to be dropped before the next step.
  std::vector<std::pair<std::string, Tensor>> State() const;
  // Puts such a state back. InvalidArgument names a tensor that is missing, unknown or of another
  // shape or dtype; nothing is changed then.
  absl::Status SetState(int64_t steps, std::vector<std::pair<std::string, Tensor>> state);

  int64_t steps() const { return steps_; }
  const OptimizerConfig& config() const { return config_; }

 private:
  struct Slot {
    Parameter parameter;
    // Adam: exp_avg, exp_avg_sq, max_exp_avg_sq (AMSGrad). SGD: momentum_buffer, which the first
    // step with a gradient makes.
    Tensor first, second, third;
  };
  void StepSlot(Slot& slot, double lr, double peak_lr, const Tensor& grad, double grad_scale) const;
  // Calls visit(name, tensor) for every tensor of the state, whether or not it has a value yet.
  template <class Visit>
  static void VisitState(const OptimizerConfig& config, std::vector<Slot>& slots, Visit visit);

  OptimizerConfig config_;
  std::vector<Slot> slots_;
  int64_t steps_ = 0;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_TRAIN_OPTIMIZER_H_
