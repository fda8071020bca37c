#include "models/classify/train_classifier.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "models/train/snapshot.h"
#include "ops/loss/cross_entropy.h"
#include "ops/reduce/reduce.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/check.h"
#include "tensor/base/random.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"
#include "tensor/io/safetensors.h"

namespace residual {
namespace {

constexpr char kBest[] = "best.safetensors";

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

ClassifierScore ScoreClassifier(const SequenceClassifier& model, const LabeledSequences& data,
                                int64_t batch_size, Precision precision) {
  ClassifierScore score;
  score.rows.resize(model.config().n_classes);
  score.right.resize(model.config().n_classes);
  MixerContext context;
  context.precision = precision;
  CrossEntropyOptions sum;
  sum.reduction = Reduction::kSum;
  for (int64_t begin = 0; begin < data.n(); begin += batch_size) {
    std::vector<int64_t> rows(std::min(batch_size, data.n() - begin));
    std::iota(rows.begin(), rows.end(), begin);
    const LabeledSequences batch = SelectRows(data, rows);
    const Tensor logits = model.Forward(batch.x, batch.lengths, &context);
    score.loss += CrossEntropy(logits, Labels(batch), sum).Item();
    const Tensor found = ArgMax(logits, -1);
    for (size_t i = 0; i < rows.size(); ++i) {
      ++score.rows[batch.label[i]];
      score.right[batch.label[i]] += found.data<int64_t>()[i] == batch.label[i];
    }
  }
  const auto n = static_cast<double>(data.n());
  score.accuracy =
      static_cast<double>(std::accumulate(score.right.begin(), score.right.end(), int64_t{0})) / n;
  score.loss /= n;
  return score;
}

ClassifierTrainer::ClassifierTrainer(const ClassifierTraining& training, SequenceClassifier& model,
                                     const LabeledSequences& train,
                                     const LabeledSequences& validation)
    : Learner(training.optimizer, model),
      training_(training),
      model_(model),
      train_(train),
      validation_(validation) {
  RESIDUAL_CHECK(training.batch_size >= 1 && training.batch_size <= train.n())
      << training.batch_size << " of " << train.n() << " rows";
}

absl::StatusOr<StepResult> ClassifierTrainer::Step() {
  const int64_t epoch = step() / steps_per_epoch();
  if (epoch != epoch_) {
    order_ = Shuffled(train_.n(), training_.seed, epoch);
    epoch_ = epoch;
  }
  const int64_t begin = step() % steps_per_epoch() * training_.batch_size;
  return StepOn(
      SelectRows(train_, absl::Span<const int64_t>(order_).subspan(begin, training_.batch_size)));
}

absl::StatusOr<StepResult> ClassifierTrainer::StepOn(const LabeledSequences& batch) {
  const std::vector<Parameter> parameters = Parameters(model_);
  std::vector<Tensor> grads(parameters.size());
  MixerContext context;
  context.training = true;
  context.seed = training_.seed;
  context.step = static_cast<uint64_t>(step());
  context.precision = training_.precision;
  StepResult result;
  result.step = step();
  result.lr = training_.schedule.Rate(step());
  result.tokens = batch.n() * batch.length();
  {
    Tape tape;
    const WatchedParameters watched(tape, parameters);
    const Tensor mean =
        CrossEntropy(model_.Forward(batch.x, batch.lengths, &context), Labels(batch));
    result.loss = mean.Item();
    if (!std::isfinite(result.loss)) {
      return absl::FailedPreconditionError(
          absl::StrCat("step ", step(), ": the loss is ", result.loss));
    }
    const Gradients found = tape.Backward(mean);
    for (size_t i = 0; i < parameters.size(); ++i) {
      grads[i] = found.Find(*parameters[i].value);
      grads[i].set_tape_ref({});
    }
  }
  RESIDUAL_ASSIGN_OR_RETURN(result.grad_norm, Update(grads, {result.lr, training_.schedule.Peak(),
                                                             training_.clip_norm, 1}));
  return result;
}

Evaluation ClassifierTrainer::Measure(int64_t) {
  const ClassifierScore score = ScoreClassifier(model_, validation_, 100, training_.precision);
  if (best_.step < 0 || score.accuracy > best_.accuracy) {
    best_ = {step(), score.accuracy};
    for (const Parameter& parameter : Parameters(model_)) {
      best_.parameters.push_back(parameter.value->Clone());
    }
  }
  return {score.loss, score.accuracy};
}

void ClassifierTrainer::TakeBest() {
  const std::vector<Parameter> parameters = Parameters(model_);
  for (size_t i = 0; i < best_.parameters.size(); ++i) {
    *parameters[i].value = best_.parameters[i].Clone();
  }
}

std::vector<CheckpointFile> ClassifierTrainer::MoreFiles() {
  if (best_.step < 0) return {};
  return {{kBest, [this](const std::string& path) {
             std::vector<NamedTensor> tensors;
             const std::vector<Parameter> parameters = Parameters(model_);
             for (size_t i = 0; i < parameters.size(); ++i) {
               tensors.emplace_back(parameters[i].name, ToDisk(parameters[i], best_.parameters[i]));
             }
             return WriteSafetensors(path, tensors,
                                     {{"step", absl::StrCat(best_.step)},
                                      {"accuracy", absl::StrFormat("%.17g", best_.accuracy)}});
           }}};
}

absl::Status ClassifierTrainer::RestoreMore(const std::string& folder) {
  const std::string path = JoinPath(folder, kBest);
  const absl::StatusOr<SafetensorsFile> file = SafetensorsFile::Open(path);
  best_ = {};
  if (absl::IsNotFound(file.status())) return absl::OkStatus();  // nothing was measured yet
  RESIDUAL_RETURN_IF_ERROR(file.status());
  Best best;
  const auto text = [&](const char* name) {
    const auto found = file->metadata().find(name);
    return found == file->metadata().end() ? std::string() : found->second;
  };
  if (!absl::SimpleAtoi(text("step"), &best.step) || best.step < 0 ||
      !absl::SimpleAtod(text("accuracy"), &best.accuracy)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": the metadata 'step' and 'accuracy' are '", text("step"), "' and '",
                     text("accuracy"), "', expected a number from 0 and a share"));
  }
  for (const Parameter& parameter : Parameters(model_)) {
    RESIDUAL_ASSIGN_OR_RETURN(const Tensor value, ReadParameter(*file, parameter));
    best.parameters.push_back(value.Clone());
  }
  best_ = std::move(best);
  return absl::OkStatus();
}

absl::StatusOr<ClassifierRun> TrainClassifier(
    const ClassifierTraining& options, SequenceClassifier& model, const LabeledSequences& train,
    const LabeledSequences& validation,
    const std::function<void(const ClassifierRun::Epoch&)>& on_epoch) {
  RESIDUAL_RETURN_IF_ERROR(CheckReadable(model, train));
  RESIDUAL_RETURN_IF_ERROR(CheckReadable(model, validation));
  ClassifierTraining training = options;
  if (training.batch_size < 1 || training.batch_size > train.n()) {
    return absl::InvalidArgumentError(absl::StrCat("batch_size is ", training.batch_size,
                                                   ", expected 1 to the ", train.n(), " rows"));
  }
  const int64_t batches = train.n() / training.batch_size;
  if (training.schedule.total_steps == 0) {
    training.schedule.total_steps = training.epochs * batches;
  }
  ClassifierTrainer trainer(training, model, train, validation);
  ClassifierRun run;
  const double start = Seconds();
  for (int64_t epoch = 0; epoch < training.epochs; ++epoch) {
    ClassifierRun::Epoch point;
    for (int64_t b = 0; b < batches; ++b) {
      RESIDUAL_ASSIGN_OR_RETURN(const StepResult step, trainer.Step());
      point.loss += step.loss / static_cast<double>(batches);
    }
    point.step = trainer.step();
    point.validation = *trainer.Measure(0).accuracy;
    point.seconds = Seconds() - start;
    if (trainer.best().step == trainer.step()) run.best = epoch;
    run.epochs.push_back(point);
    if (on_epoch) on_epoch(point);
    if (training.seconds_limit > 0 && point.seconds > training.seconds_limit) break;
  }
  trainer.TakeBest();
  return run;
}

}  // namespace residual
