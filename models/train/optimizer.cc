#include "models/train/optimizer.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ops/optimizer/optimizer.h"
#include "tensor/base/parallel.h"

namespace residual {
namespace {

constexpr int64_t kSmallParameter = 1 << 18;  // elements

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
      if (config_.amsgrad) slot.third = Tensor::Zeros(value.shape(), dtype);
    }
    slot.parameter = std::move(parameter);
    slots_.push_back(std::move(slot));
  }
}

void Optimizer::StepSlot(Slot& slot, double lr, double peak_lr, const Tensor& grad,
                         double grad_scale) const {
  const ParamOptions& options = slot.parameter.options;
  double rate = lr * options.lr_scale;
  const double peak = peak_lr * options.lr_scale;
  if (options.most_lr > 0 && peak > options.most_lr) rate *= options.most_lr / peak;
  const double decay = options.weight_decay ? config_.weight_decay : 0;
  if (config_.kind == OptimizerKind::kSgd) {
    SgdOptions sgd;
    sgd.lr = rate;
    sgd.momentum = config_.momentum;
    sgd.dampening = config_.dampening;
    sgd.nesterov = config_.nesterov;
    sgd.weight_decay = decay;
    sgd.grad_scale = grad_scale;
    SgdStep(*slot.parameter.value, slot.first, grad, sgd);
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
    AdamStep(*slot.parameter.value, slot.first, slot.second, grad, adam,
             config_.amsgrad ? &slot.third : nullptr);
  }
}

void Optimizer::Step(double lr, absl::Span<const Tensor> grads, double grad_scale, double peak_lr) {
  RESIDUAL_CHECK_EQ(grads.size(), slots_.size()) << "gradients of an optimizer step";
  ++steps_;
  // Large parameters are cut among the threads, of small ones each thread takes some.
  std::vector<size_t> small;
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (!grads[i].defined()) continue;
    if (grads[i].elements() < kSmallParameter) {
      small.push_back(i);
    } else {
      StepSlot(slots_[i], lr, peak_lr, grads[i], grad_scale);
    }
  }
  ParallelFor(static_cast<int64_t>(small.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      StepSlot(slots_[small[i]], lr, peak_lr, grads[small[i]], grad_scale);
    }
  });
}

template <class Visit>
void Optimizer::VisitState(const OptimizerConfig& config, std::vector<Slot>& slots, Visit visit) {
  for (Slot& slot : slots) {
    const std::string& name = slot.parameter.name;
    if (config.kind == OptimizerKind::kSgd) {
      if (config.momentum != 0) visit(absl::StrCat("momentum_buffer.", name), slot, slot.first);
    } else {
      visit(absl::StrCat("exp_avg.", name), slot, slot.first);
      visit(absl::StrCat("exp_avg_sq.", name), slot, slot.second);
      if (config.amsgrad) visit(absl::StrCat("max_exp_avg_sq.", name), slot, slot.third);
    }
  }
}

std::vector<std::pair<std::string, Tensor>> Optimizer::State() const {
  std::vector<std::pair<std::string, Tensor>> state;
  // Slots are handed out for writing; here they are only read.
  VisitState(config_, const_cast<std::vector<Slot>&>(slots_),
             [&](const std::string& name, const Slot&, const Tensor& tensor) {
               // A momentum buffer of zeros would differ from none: PyTorch's first step sets it.
               if (tensor.defined()) state.emplace_back(name, tensor);
             });
  return state;
}

absl::Status Optimizer::SetState(int64_t steps, std::vector<std::pair<std::string, Tensor>> state) {
  std::map<std::string, Tensor> by_name;
  for (auto& [name, tensor] : state) by_name[name] = std::move(tensor);
  state.clear();
  std::vector<std::pair<Tensor*, Tensor>> found;
  absl::Status status;
  VisitState(config_, slots_, [&](const std::string& name, const Slot& slot, Tensor& tensor) {
    const auto it = by_name.find(name);
    const Tensor& value = *slot.parameter.value;
    const DType dtype = value.dtype() == kF64 ? kF64 : kF32;
    if (it == by_name.end()) {
      if (config_.kind == OptimizerKind::kSgd) {
        found.emplace_back(&tensor, Tensor());
      } else {
        status.Update(absl::InvalidArgumentError(absl::StrCat("'", name, "' is missing")));
      }
    } else if (it->second.shape() != value.shape() || it->second.dtype() != dtype) {
      status.Update(absl::InvalidArgumentError(
          absl::StrCat("'", name, "' is ", it->second.ToString(), ", expected ", Name(dtype),
                       value.shape().ToString())));
    } else {
      found.emplace_back(&tensor, std::move(it->second));
    }
    if (it != by_name.end()) by_name.erase(it);
  });
  if (status.ok() && !by_name.empty()) {
    status = absl::InvalidArgumentError(absl::StrCat("'", by_name.begin()->first,
                                                     "' belongs to no parameter of this ",
                                                     OptimizerKindName(config_.kind)));
  }
  if (!status.ok()) return status;
  for (auto& [to, value] : found) {
    // A mapped file cannot be written.
    *to = !value.defined() || value.unique() ? std::move(value) : value.Clone();
  }
  steps_ = steps;
  return absl::OkStatus();
}

}  // namespace residual
