#include "models/classify/train_classifier.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ops/loss/cross_entropy.h"
#include "ops/optimizer/optimizer.h"
#include "ops/reduce/reduce.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/random.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// A permutation, drawn for this epoch (Fisher and Yates).
std::vector<int64_t> Shuffled(int64_t n, uint64_t seed, int64_t epoch) {
  const Philox random(seed, RandomStream("epoch", static_cast<uint64_t>(epoch)));
  std::vector<int64_t> order(n);
  std::iota(order.begin(), order.end(), int64_t{0});
  for (int64_t i = n - 1; i > 0; --i) std::swap(order[i], order[random.Below(i, i + 1)]);
  return order;
}

Tensor Labels(const LabeledSequences& data) {
  return Tensor::Of<int64_t>({data.n()},
                             std::vector<int64_t>(data.label.begin(), data.label.end()));
}

}  // namespace

absl::Status CheckReadable(const SequenceClassifier& model, const LabeledSequences& data) {
  const ClassifierConfig& c = model.config();
  const auto wrong = [](const char* what, int64_t found, const std::string& expected) {
    return absl::InvalidArgumentError(
        absl::StrCat("the data's ", what, " is ", found, ", expected ", expected));
  };
  if (data.n() == 0) return wrong("number of rows", 0, "at least 1");
  const int64_t channels = data.d_vocab > 0 ? 0 : data.x.dim(2);
  if (channels != c.channels) {
    return wrong("number of channels (0: tokens)", channels, absl::StrCat(c.channels));
  }
  if (channels == 0 && data.d_vocab > c.body.d_vocab) {
    return wrong("vocabulary", data.d_vocab, absl::StrCat("at most ", c.body.d_vocab));
  }
  if (data.length() < 1 || data.length() > c.body.n_ctx) {
    return wrong("length", data.length(), absl::StrCat("1 to the model's ", c.body.n_ctx));
  }
  if (data.n_classes > c.n_classes) {
    return wrong("number of classes", data.n_classes, absl::StrCat("at most ", c.n_classes));
  }
  return absl::OkStatus();
}

ClassifierTrainer::ClassifierTrainer(const ClassifierTraining& training, SequenceClassifier& model)
    : training_(training), model_(model), optimizer_(training.optimizer, model) {}

absl::StatusOr<double> ClassifierTrainer::Step(const LabeledSequences& batch) {
  const std::vector<Parameter> parameters = Parameters(model_);
  std::vector<Tensor> grads(parameters.size());
  MixerContext context;
  context.training = true;
  context.seed = training_.seed;
  context.step = static_cast<uint64_t>(step_);
  context.precision = training_.precision;
  double loss = 0;
  {
    Tape tape;
    for (const Parameter& parameter : parameters) tape.Watch(*parameter.value);
    const Tensor mean =
        CrossEntropy(model_.Forward(batch.x, batch.lengths, &context), Labels(batch));
    loss = mean.Item();
    if (std::isfinite(loss)) {
      const Gradients found = tape.Backward(mean);
      for (size_t i = 0; i < parameters.size(); ++i) {
        grads[i] = found.Find(*parameters[i].value);
        grads[i].set_tape_ref({});
      }
    }
    for (const Parameter& parameter : parameters) parameter.value->set_tape_ref({});
  }
  if (!std::isfinite(loss)) {
    return absl::FailedPreconditionError(absl::StrCat("step ", step_, ": the loss is ", loss));
  }
  // NaN or infinite exactly if an element is.
  const double norm = GlobalNorm(grads);
  if (!std::isfinite(norm)) {
    for (size_t i = 0; i < grads.size(); ++i) {
      if (!grads[i].defined() || !FirstNonFinite(grads[i])) continue;
      return absl::FailedPreconditionError(absl::StrCat("step ", step_, ": the gradient of '",
                                                        parameters[i].name, "' is not finite"));
    }
  }
  const double scale = training_.clip_norm > 0 ? ClipScale(norm, training_.clip_norm) : 1;
  const Schedule& schedule = training_.schedule;
  optimizer_.Step(schedule.Rate(step_), grads, scale, schedule.Peak());
  ++step_;
  return loss;
}

double ClassifierAccuracy(const SequenceClassifier& model, const LabeledSequences& data,
                          int64_t batch_size) {
  int64_t right = 0;
  for (int64_t begin = 0; begin < data.n(); begin += batch_size) {
    std::vector<int64_t> rows(std::min(batch_size, data.n() - begin));
    std::iota(rows.begin(), rows.end(), begin);
    const LabeledSequences batch = SelectRows(data, rows);
    const Tensor found = ArgMax(model.Forward(batch.x, batch.lengths), -1);
    for (size_t i = 0; i < rows.size(); ++i) {
      right += found.data<int64_t>()[i] == batch.label[i];
    }
  }
  return static_cast<double>(right) / static_cast<double>(data.n());
}

absl::StatusOr<ClassifierRun> TrainClassifier(
    const ClassifierTraining& options, SequenceClassifier& model, const LabeledSequences& train,
    const LabeledSequences& validation,
    const std::function<void(const ClassifierRun::Epoch&)>& on_epoch) {
  RESIDUAL_RETURN_IF_ERROR(CheckReadable(model, train));
  RESIDUAL_RETURN_IF_ERROR(CheckReadable(model, validation));
  ClassifierTraining training = options;
  const int64_t batches = train.n() / training.batch_size;
  if (training.batch_size < 1 || batches < 1) {
    return absl::InvalidArgumentError(absl::StrCat("batch_size is ", training.batch_size,
                                                   ", expected 1 to the ", train.n(), " rows"));
  }
  if (training.schedule.total_steps == 0) {
    training.schedule.total_steps = training.epochs * batches;
  }
  ClassifierTrainer trainer(training, model);
  ClassifierRun run;
  std::vector<Tensor> best;
  const double start = Seconds();
  for (int64_t epoch = 0; epoch < training.epochs; ++epoch) {
    const std::vector<int64_t> order = Shuffled(train.n(), training.seed, epoch);
    ClassifierRun::Epoch point;
    for (int64_t b = 0; b < batches; ++b) {
      const absl::Span<const int64_t> rows(order.data() + b * training.batch_size,
                                           training.batch_size);
      RESIDUAL_ASSIGN_OR_RETURN(const double loss, trainer.Step(SelectRows(train, rows)));
      point.loss += loss / static_cast<double>(batches);
    }
    point.step = trainer.step();
    point.validation = ClassifierAccuracy(model, validation);
    point.seconds = Seconds() - start;
    if (run.epochs.empty() || point.validation > run.epochs[run.best].validation) {
      run.best = static_cast<int64_t>(run.epochs.size());
      best.clear();
      for (const Parameter& parameter : Parameters(model)) best.push_back(parameter.value->Clone());
    }
    run.epochs.push_back(point);
    if (on_epoch) on_epoch(point);
    if (training.seconds_limit > 0 && point.seconds > training.seconds_limit) break;
  }
  const std::vector<Parameter> parameters = Parameters(model);
  for (size_t i = 0; i < best.size(); ++i) *parameters[i].value = best[i];
  return run;
}

}  // namespace residual
