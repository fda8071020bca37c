#include "models/train/optimizer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "ops/optimizer/optimizer.h"

namespace residual {
namespace {

struct Entry {
  const char* name;
  OptimizerKind kind;
};
constexpr Entry kKinds[] = {
    {"adamw", OptimizerKind::kAdamW}, {"adam", OptimizerKind::kAdam}, {"sgd", OptimizerKind::kSgd}};

}  // namespace

std::optional<OptimizerKind> OptimizerKindFromName(absl::string_view name) {
  for (const Entry& entry : kKinds) {
    if (name == entry.name) return entry.kind;
  }
  return std::nullopt;
}

const char* OptimizerKindName(OptimizerKind kind) {
  for (const Entry& entry : kKinds) {
    if (kind == entry.kind) return entry.name;
  }
  return "?";
}

std::vector<std::string> OptimizerKindNames() {
  std::vector<std::string> names;
  for (const Entry& entry : kKinds) names.push_back(entry.name);
  return names;
}

Optimizer::Optimizer(const OptimizerConfig& config, Module& module) : config_(config) {
  for (Parameter& parameter : Parameters(module)) {
    Slot slot;
    const Tensor& value = *parameter.value;
    RESIDUAL_CHECK(value.defined()) << parameter.name << " has no value yet";
    // Moments of 16-bit parameters are kept in f32.
    const DType dtype = value.dtype() == kF64 ? kF64 : kF32;
    if (config_.kind != OptimizerKind::kSgd) {
      slot.first = Tensor::Zeros(value.shape(), dtype);
      slot.second = Tensor::Zeros(value.shape(), dtype);
    }
    slot.parameter = std::move(parameter);
    slots_.push_back(std::move(slot));
  }
}

void Optimizer::Step(double lr, absl::Span<const Tensor> grads, double grad_scale) {
  RESIDUAL_CHECK_EQ(grads.size(), slots_.size()) << "gradients of an optimizer step";
  ++steps_;
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (!grads[i].defined()) continue;
    Slot& slot = slots_[i];
    const ParamOptions& options = slot.parameter.options;
    const double rate = lr * options.lr_scale;
    const double decay = options.weight_decay ? config_.weight_decay : 0;
    if (config_.kind == OptimizerKind::kSgd) {
      SgdOptions sgd;
      sgd.lr = rate;
      sgd.momentum = config_.momentum;
      sgd.nesterov = config_.nesterov;
      sgd.weight_decay = decay;
      sgd.grad_scale = grad_scale;
      SgdStep(*slot.parameter.value, slot.first, grads[i], sgd);
    } else {
      AdamOptions adam;
      adam.lr = rate;
      adam.beta1 = config_.beta1;
      adam.beta2 = config_.beta2;
      adam.eps = config_.eps;
      adam.weight_decay = decay;
      adam.decoupled = config_.kind == OptimizerKind::kAdamW;
      adam.step = steps_;
      adam.grad_scale = grad_scale;
      AdamStep(*slot.parameter.value, slot.first, slot.second, grads[i], adam);
    }
  }
}

std::vector<std::pair<std::string, Tensor*>> Optimizer::State() {
  std::vector<std::pair<std::string, Tensor*>> state;
  for (Slot& slot : slots_) {
    const std::string& name = slot.parameter.name;
    if (config_.kind == OptimizerKind::kSgd) {
      if (config_.momentum == 0) continue;
      // Before the first step there is no buffer; zeros would differ from PyTorch's first step, so
      // an undefined one is left out.
      if (slot.first.defined()) state.emplace_back("momentum_buffer." + name, &slot.first);
    } else {
      state.emplace_back("exp_avg." + name, &slot.first);
      state.emplace_back("exp_avg_sq." + name, &slot.second);
    }
  }
  return state;
}

}  // namespace residual
