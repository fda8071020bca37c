#include "models/train/trainer.h"

#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/stream/token_loss.h"
#include "ops/elementwise/elementwise.h"
#include "ops/loss/cross_entropy.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/status_macros.h"

namespace residual {

Trainer::Trainer(const TrainConfig& config, ResidualModel& model, const DataSource& data)
    : Learner(config.optimizer, model), config_(config), model_(model), data_(data) {}

int64_t Trainer::tokens_per_step() const {
  return config_.batch_size * config_.accumulation * data_.context();
}

ModelInput Trainer::Input(const TrainingBatch& batch) const {
  ModelInput input;
  input.tokens = batch.tokens;
  input.precision = config_.precision;
  return input;
}

absl::Status Trainer::NonFiniteLoss(const TrainingBatch& batch, double loss) const {
  const std::string where = absl::StrCat("step ", step(), ": the loss is ", loss);
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

absl::StatusOr<StepResult> Trainer::StepFrom(const ModelState* start) {
  StepResult result;
  result.step = step();
  result.lr = config_.schedule.Rate(step());
  const std::vector<Parameter> parameters = Parameters(model_);
  std::vector<Tensor> grads(parameters.size());

  MixerContext training;
  training.seed = config_.seed;
  for (int64_t micro = 0; micro < config_.accumulation; ++micro) {
    const int64_t index = step() * config_.accumulation + micro;
    const TrainingBatch batch = data_.Batch(config_.seed, index, config_.batch_size);
    training.step = static_cast<uint64_t>(index);
    CrossEntropyOptions loss_options;
    loss_options.ignore_index = kIgnoreTarget;
    loss_options.label_smoothing = config_.label_smoothing;

    Tape tape;
    const WatchedParameters watched(tape, parameters);
    const Tensor loss =
        TokenLoss(model_, Input(batch), batch.targets, loss_options, &training, start);
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

  RESIDUAL_ASSIGN_OR_RETURN(
      result.grad_norm,
      Update(grads, {result.lr, config_.schedule.Peak(), config_.clip_norm, config_.accumulation}));
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
