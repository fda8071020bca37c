#include "models/train/trainer.h"

#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/stream/token_loss.h"
#include "ops/elementwise/elementwise.h"
#include "ops/loss/cross_entropy.h"
#include "ops/optimizer/optimizer.h"
#include "tensor/autograd/tape.h"

namespace residual {
namespace {

// "'blocks.0.attn.W_Q' [64, 4, 16] at index 17 (nan)", or nothing.
std::optional<std::string> DescribeNonFinite(const std::string& name, const Tensor& x) {
  const std::optional<int64_t> index = FirstNonFinite(x);
  if (!index) return std::nullopt;
  Tensor flat = x.Reshaped({x.elements()});
  flat.set_tape_ref({});  // nothing to record
  const double value = flat.Row(*index).Item();
  return absl::StrCat("'", name, "' ", x.shape().ToString(), " at index ", *index, " (", value,
                      ")");
}

// Gives tensors back their sole owner: the parameters are watched only inside this scope.
class Watched {
 public:
  Watched(Tape& tape, const std::vector<Parameter>& parameters) : parameters_(parameters) {
    for (const Parameter& parameter : parameters) tape.Watch(*parameter.value);
  }
  ~Watched() {
    for (const Parameter& parameter : parameters_) parameter.value->set_tape_ref({});
  }

 private:
  const std::vector<Parameter>& parameters_;
};

}  // namespace

Trainer::Trainer(const TrainConfig& config, ResidualModel& model, const DataSource& data)
    : config_(config), model_(model), data_(data), optimizer_(config.optimizer, model) {}

ModelInput Trainer::Input(const TrainingBatch& batch) const {
  ModelInput input;
  input.tokens = batch.tokens;
  input.precision = config_.precision;
  return input;
}

absl::Status Trainer::NonFiniteLoss(const TrainingBatch& batch, double loss) const {
  const std::string where = absl::StrCat("step ", step_, ": the loss is ", loss);
  for (const Parameter& parameter : Parameters(model_)) {
    if (auto found = DescribeNonFinite(parameter.name, *parameter.value)) {
      return absl::FailedPreconditionError(absl::StrCat(where, "; weight ", *found));
    }
  }
  // The weights are fine: look for the first activation that is not.
  std::optional<std::string> first;
  Hooks hooks;
  hooks.Read("*", [&](absl::string_view name, const Tensor& x) {
    // Masked scores are -inf by design.
    const bool scores = name.size() > 11 && name.substr(name.size() - 11) == "attn_scores";
    if (!first && !scores) first = DescribeNonFinite(std::string(name), x);
  });
  model_.Forward(Input(batch), nullptr, &hooks);
  return absl::FailedPreconditionError(first ? absl::StrCat(where, "; activation ", *first)
                                             : where);
}

absl::StatusOr<StepResult> Trainer::Step() {
  StepResult result;
  result.step = step_;
  result.lr = config_.schedule.Rate(step_);
  const std::vector<Parameter> parameters = Parameters(model_);
  std::vector<Tensor> grads(parameters.size());

  MixerContext training;
  training.seed = config_.seed;
  for (int64_t micro = 0; micro < config_.accumulation; ++micro) {
    const int64_t index = step_ * config_.accumulation + micro;
    const TrainingBatch batch = data_.Batch(config_.seed, index, config_.batch_size);
    training.step = static_cast<uint64_t>(index);
    CrossEntropyOptions loss_options;
    loss_options.ignore_index = kIgnoreTarget;
    loss_options.label_smoothing = config_.label_smoothing;

    Tape tape;
    const Watched watched(tape, parameters);
    const Tensor loss = TokenLoss(model_, Input(batch), batch.targets, loss_options, &training);
    const double value = loss.Item();
    if (!std::isfinite(value)) return NonFiniteLoss(batch, value);
    result.loss += value / config_.accumulation;
    result.tokens += batch.tokens.elements();
    const Gradients found = tape.Backward(loss);
    for (size_t i = 0; i < parameters.size(); ++i) {
      Tensor grad = found.Find(*parameters[i].value);
      if (!grad.defined()) continue;
      grad.set_tape_ref({});
      if (!grads[i].defined()) {
        grads[i] = std::move(grad);
      } else {
        if (!grads[i].unique()) grads[i] = grads[i].Clone();
        AddInto(grads[i], grad);
      }
    }
  }

  // The norm is NaN or infinite exactly if an element is.
  result.grad_norm = GlobalNorm(grads) / config_.accumulation;
  if (!std::isfinite(result.grad_norm)) {
    for (size_t i = 0; i < grads.size(); ++i) {
      if (!grads[i].defined()) continue;
      if (auto found = DescribeNonFinite(parameters[i].name, grads[i])) {
        return absl::FailedPreconditionError(
            absl::StrCat("step ", step_, ": the gradient of ", *found, " is not finite"));
      }
    }
  }
  const double scale = config_.clip_norm > 0 ? ClipScale(result.grad_norm, config_.clip_norm) : 1.0;
  optimizer_.Step(result.lr, grads, scale / config_.accumulation, config_.schedule.Peak());
  std::vector<Tensor> weights;
  for (const Parameter& parameter : parameters) weights.push_back(*parameter.value);
  if (!std::isfinite(GlobalNorm(weights))) {
    for (const Parameter& parameter : parameters) {
      if (auto found = DescribeNonFinite(parameter.name, *parameter.value)) {
        return absl::FailedPreconditionError(
            absl::StrCat("step ", step_, ": the update made weight ", *found, " non-finite"));
      }
    }
  }
  ++step_;
  return result;
}

double Trainer::Evaluate(int64_t batches) const {
  double total = 0;
  CrossEntropyOptions options;
  options.ignore_index = kIgnoreTarget;
  for (int64_t i = 0; i < batches; ++i) {
    const TrainingBatch batch = data_.EvalBatch(config_.seed, i, config_.batch_size);
    total += TokenLoss(model_, Input(batch), batch.targets, options).Item();
  }
  return batches > 0 ? total / batches : 0;
}

}  // namespace residual
