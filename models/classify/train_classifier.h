// Trains a classifier of sequences on labelled rows.

#ifndef RESIDUAL_MODELS_CLASSIFY_TRAIN_CLASSIFIER_H_
#define RESIDUAL_MODELS_CLASSIFY_TRAIN_CLASSIFIER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/classify/classifier.h"
#include "models/data/labeled/labeled.h"
#include "models/nn/precision.h"
#include "models/train/learner.h"
#include "models/train/optimizer.h"
#include "models/train/schedule.h"

namespace residual {

struct ClassifierTraining {
  OptimizerConfig optimizer;
  Schedule schedule;  // total_steps 0: those of all epochs
  int64_t epochs = 10;
  int64_t batch_size = 50;
  double clip_norm = 1;  // 0: no clipping
  Precision precision = Precision::kFull;
  uint64_t seed = 0;         // of the order of the rows and of dropout
  double seconds_limit = 0;  // ends after the epoch in which it is over; 0: none
};

// How a classifier does on labelled rows.
struct ClassifierScore {
  double accuracy = 0;  // the share whose label has the highest logit (of equals the first)
  double loss = 0;      // nats per row
  std::vector<int64_t> rows, right;  // of each class
};
// The data must be readable, see CheckReadable.
ClassifierScore ScoreClassifier(const SequenceClassifier& model, const LabeledSequences& data,
                                int64_t batch_size = 100, Precision precision = Precision::kFull);

// Steps on batches of labelled rows. Epoch by epoch all rows in an order drawn for each, the rest
// that is no batch left out; the rows of a step are a function of the seed and the step.
class ClassifierTrainer : public Learner {
 public:
  // The classifier must be initialised; it and the data outlive the trainer. schedule.total_steps
  // is used as it is. CHECKs batch_size, 1 to the rows of `train`.
  ClassifierTrainer(const ClassifierTraining& training, SequenceClassifier& model,
                    const LabeledSequences& train, const LabeledSequences& validation);

  absl::StatusOr<StepResult> Step() override;
  // On these rows. FailedPrecondition if loss, gradient or weights are not finite.
  absl::StatusOr<StepResult> StepOn(const LabeledSequences& batch);

  int64_t steps_per_epoch() const { return train_.n() / training_.batch_size; }
  int64_t tokens_per_step() const override { return training_.batch_size * train_.length(); }

  // On all of the validation rows. The parameters that were most accurate are kept: the first of
  // equals.
  Evaluation Measure(int64_t) override;

  struct Best {
    int64_t step = -1;  // steps done; -1: nothing was measured yet
    double accuracy = 0;
    std::vector<Tensor> parameters = {};  // in Parameters' order
  };
  const Best& best() const { return best_; }
  // Gives the model the best parameters, if there are any.
  void TakeBest();

  // best.safetensors: the best parameters; metadata "step" and "accuracy".
  std::vector<CheckpointFile> MoreFiles() override;
  absl::Status RestoreMore(const std::string& folder) override;

 private:
  ClassifierTraining training_;
  SequenceClassifier& model_;
  const LabeledSequences& train_;
  const LabeledSequences& validation_;
  int64_t epoch_ = -1;  // that `order_` is of
  std::vector<int64_t> order_;
  Best best_;
};

struct ClassifierRun {
  struct Epoch {
    int64_t step = 0;
    double loss = 0;        // mean over the epoch, nats
    double validation = 0;  // accuracy after it
    double seconds = 0;     // since the beginning
  };
  std::vector<Epoch> epochs;
  int64_t best = 0;  // the epoch, from 0, of the highest validation accuracy: the first of equals
};

// Epochs of all rows in an order drawn for each, the rest that is no batch left out. The model ends
// with the parameters of the epoch that was best on `validation`. on_epoch may be null.
// InvalidArgument if the data are not what the model reads.
absl::StatusOr<ClassifierRun> TrainClassifier(
    const ClassifierTraining& training, SequenceClassifier& model, const LabeledSequences& train,
    const LabeledSequences& validation,
    const std::function<void(const ClassifierRun::Epoch&)>& on_epoch);

// InvalidArgument if the model cannot read the data or has fewer classes: names what was found and
// what is expected.
absl::Status CheckReadable(const SequenceClassifier& model, const LabeledSequences& data);

}  // namespace residual

#endif  // RESIDUAL_MODELS_CLASSIFY_TRAIN_CLASSIFIER_H_
