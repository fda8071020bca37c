#include "tools/training/job/job.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "models/checkpoint/config_reader.h"
#include "models/classify/classifier_folder.h"
#include "models/classify/train_classifier.h"
#include "models/train/trainer.h"
#include "models/zoo/architectures.h"
#include "models/zoo/zoo.h"
#include "tensor/base/status_macros.h"
#include "tools/cli/command_line.h"

namespace residual {
namespace {

using nlohmann::json;

class LanguageJob : public TrainingJob {
 public:
  LanguageJob(const TrainingPlan& plan, TrainData data, std::unique_ptr<ResidualModel> model)
      : plan_(plan), data_(std::move(data)), model_(std::move(model)) {}

  Module& module() override { return *model_; }
  const json& config() const override { return plan_.model; }
  const Tokenizer* tokenizer() const override { return data_.tokenizer.get(); }
  double StepElements() const override {
    return 2.0 * plan_.run.train.batch_size * plan_.text.context * model_->d_vocab();
  }
  Learner& MakeLearner() override {
    trainer_ = std::make_unique<Trainer>(plan_.run.train, *model_, *data_.source);
    return *trainer_;
  }
  std::string Summary() const override {
    return absl::StrFormat(
        "%d tokens in the vocabulary, %d steps of %d tokens", model_->d_vocab(), plan_.run.steps,
        plan_.run.train.batch_size * plan_.run.train.accumulation * plan_.text.context);
  }
  absl::Status Save(const std::string& folder) override {
    return SaveModel(*model_, PublishedConfig(plan_.model), folder);
  }

 private:
  TrainingPlan plan_;
  TrainData data_;
  std::unique_ptr<ResidualModel> model_;
  std::unique_ptr<Trainer> trainer_;
};

class ClassifierJob : public TrainingJob {
 public:
  ClassifierJob(const TrainingPlan& plan, LabeledSplit data,
                std::unique_ptr<SequenceClassifier> model)
      : plan_(plan),
        data_(std::move(data)),
        model_(std::move(model)),
        config_(ClassifierToJson(model_->config())) {}

  Module& module() override { return *model_; }
  const json& config() const override { return config_; }
  double StepElements() const override {
    const TransformerConfig& body = model_->config().body;
    return 2.0 * plan_.run.train.batch_size * data_.train.length() * body.d_model *
           static_cast<double>(body.blocks.size());
  }
  Learner& MakeLearner() override {
    const TrainConfig& train = plan_.run.train;
    ClassifierTraining training;
    training.optimizer = train.optimizer;
    training.schedule = train.schedule;
    training.batch_size = train.batch_size;
    training.clip_norm = train.clip_norm;
    training.precision = train.precision;
    training.seed = train.seed;
    trainer_ =
        std::make_unique<ClassifierTrainer>(training, *model_, data_.train, data_.validation);
    return *trainer_;
  }
  std::string Summary() const override {
    const int64_t batch = plan_.run.train.batch_size, per_epoch = data_.train.n() / batch;
    return absl::StrFormat(
        "%d classes; %d rows of length %d to train on, %d held out, %d to test; %d steps of %d "
        "rows, %.1f epochs",
        data_.train.n_classes, data_.train.n(), data_.train.length(), data_.validation.n(),
        data_.test.n(), plan_.run.steps, batch,
        static_cast<double>(plan_.run.steps) / static_cast<double>(per_epoch));
  }
  absl::Status Save(const std::string& folder) override {
    trainer_->TakeBest();
    if (data_.test.n() > 0) {
      test_ = ScoreClassifier(*model_, data_.test, 100, plan_.run.train.precision).accuracy;
    }
    return SaveClassifier(*model_, folder);
  }
  std::string Result(json& members) const override {
    const ClassifierTrainer::Best& best = trainer_->best();
    std::string text;
    if (best.step >= 0) {
      members["best_step"] = best.step;
      members["validation_accuracy"] = best.accuracy;
      text = absl::StrFormat("best of step %d: validation accuracy %.4f", best.step, best.accuracy);
    }
    if (test_) {
      members["test_accuracy"] = *test_;
      absl::StrAppendFormat(&text, "%stest accuracy %.4f", text.empty() ? "" : ", ", *test_);
    }
    return text;
  }

 private:
  TrainingPlan plan_;
  LabeledSplit data_;
  std::unique_ptr<SequenceClassifier> model_;
  json config_;
  std::unique_ptr<ClassifierTrainer> trainer_;
  std::optional<double> test_;
};

absl::StatusOr<std::unique_ptr<SequenceClassifier>> MakeClassifier(const TrainingPlan& plan,
                                                                   const LabeledSplit& data) {
  json body = plan.model;
  body["n_ctx"] = data.train.length();
  body["d_vocab"] = std::max<int64_t>(1, data.train.d_vocab);
  ConfigReader reader(body, "settings");
  ClassifierConfig config;
  RESIDUAL_ASSIGN_OR_RETURN(config.body, ReadResidual(reader));
  config.channels = data.train.d_vocab > 0 ? 0 : data.train.x.dim(2);
  config.n_classes = data.train.n_classes;
  config.class_names = data.train.class_names;
  config.pooling = plan.pooling;
  absl::StatusOr<std::unique_ptr<SequenceClassifier>> model = SequenceClassifier::Make(config);
  if (!model.ok()) return UsageError(absl::StrCat("settings: ", model.status().message()));
  for (const LabeledSequences* rows : {&data.validation, &data.test}) {
    if (rows->n() > 0) RESIDUAL_RETURN_IF_ERROR(CheckReadable(**model, *rows));
  }
  return model;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TrainingJob>> MakeJob(const TrainFlags& flags, TrainingPlan& plan,
                                                     Recipe& recipe) {
  RESIDUAL_ASSIGN_OR_RETURN(TrainData data, LoadTrainData(flags, plan, recipe));
  if (!recipe.labeled.empty()) {
    RESIDUAL_ASSIGN_OR_RETURN(std::unique_ptr<SequenceClassifier> model,
                              MakeClassifier(plan, data.labeled));
    return std::make_unique<ClassifierJob>(plan, std::move(data.labeled), std::move(model));
  }
  plan.model["d_vocab"] = data.source->d_vocab();
  RESIDUAL_ASSIGN_OR_RETURN(std::unique_ptr<ResidualModel> model,
                            ModelFromConfig(plan.model, "settings"));
  return std::make_unique<LanguageJob>(plan, std::move(data), std::move(model));
}

}  // namespace residual
