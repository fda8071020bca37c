// Trains a classifier of sequences on labelled rows.

#ifndef RESIDUAL_MODELS_CLASSIFY_TRAIN_CLASSIFIER_H_
#define RESIDUAL_MODELS_CLASSIFY_TRAIN_CLASSIFIER_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "models/classify/classifier.h"
#include "models/data/labeled/labeled.h"
#include "models/nn/precision.h"
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

// One step on one batch, with a rate of its own for each step of the schedule.
class ClassifierTrainer {
 public:
  // The classifier must be initialised and outlive the trainer. schedule.total_steps is used as it
  // is.
  ClassifierTrainer(const ClassifierTraining& training, SequenceClassifier& model);

  // The mean loss of the rows, in nats. FailedPrecondition if loss or gradient are not finite;
  // names the step and the parameter, which stay as they were.
  absl::StatusOr<double> Step(const LabeledSequences& batch);
  int64_t step() const { return step_; }

 private:
  ClassifierTraining training_;
  SequenceClassifier& model_;
  Optimizer optimizer_;
  int64_t step_ = 0;
};

// The share of rows whose label has the highest logit (of equals the first).
double ClassifierAccuracy(const SequenceClassifier& model, const LabeledSequences& data,
                          int64_t batch_size = 100);

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
