// What a recipe trains: model, data and learner, of either kind (models of tokens, classifiers).

#ifndef RESIDUAL_TOOLS_TRAINING_JOB_JOB_H_
#define RESIDUAL_TOOLS_TRAINING_JOB_JOB_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "models/nn/module.h"
#include "models/settings/settings.h"
#include "models/train/learner.h"
#include "nlohmann/json.hpp"
#include "tools/training/data/train_data.h"
#include "tools/training/recipe.h"

namespace residual {

class TrainingJob {
 public:
  virtual ~TrainingJob() = default;

  virtual Module& module() = 0;
  // The config.json of checkpoints.
  virtual const nlohmann::json& config() const = 0;
  virtual const Tokenizer* tokenizer() const { return nullptr; }
  // Elements of what a step makes, at least, beside the weights.
  virtual double StepElements() const = 0;
  // Of the initialised module; valid while the job is.
  virtual Learner& MakeLearner() = 0;
  // "256 tokens in the vocabulary, 2000 steps of 4096 tokens"
  virtual std::string Summary() const = 0;
  // The trained model as a folder that others open. Of a classifier the parameters that were best
  // on the rows held out.
  virtual absl::Status Save(const std::string& folder) = 0;
  // What Save found out besides; for people, and as members for --json.
  virtual std::string Result(nlohmann::json& members) const { return ""; }
};

// Loads the data (see LoadTrainData) and builds the model, whose parameters have no value yet.
absl::StatusOr<std::unique_ptr<TrainingJob>> MakeJob(const TrainFlags& flags, TrainingPlan& plan,
                                                     Recipe& recipe);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_TRAINING_JOB_JOB_H_
