// One training step, and what it needs: the arithmetic of a run without files or progress bars.

#ifndef RESIDUAL_MODELS_TRAIN_TRAINER_H_
#define RESIDUAL_MODELS_TRAIN_TRAINER_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "models/nn/precision.h"
#include "models/stream/residual_model.h"
#include "models/train/data.h"
#include "models/train/learner.h"
#include "models/train/optimizer.h"
#include "models/train/schedule.h"

namespace residual {

struct TrainConfig {
  OptimizerConfig optimizer;
  Schedule schedule;
  int64_t batch_size = 32;
  int64_t accumulation = 1;  // batches per step; their gradients are averaged
  double clip_norm = 1;      // global norm of the gradient; 0: no clipping
  double label_smoothing = 0;
  Precision precision = Precision::kFull;  // of the products, in training and evaluation
  uint64_t seed = 0;                       // of the data and of dropout
};

class Trainer : public Learner {
 public:
  // The model must be initialised; model and data must outlive the trainer.
  Trainer(const TrainConfig& config, ResidualModel& model, const DataSource& data);

  // What is not finite is named with its index.
  absl::StatusOr<StepResult> Step() override { return StepFrom(nullptr); }
  // Step, with the rows of every batch going on from the rows of `start`, which stays as it is and
  // gets no gradient. nullptr: from nothing.
  absl::StatusOr<StepResult> StepFrom(const ModelState* start);

  // Mean loss over `batches` evaluation batches, nats per predicted token.
  double Evaluate(int64_t batches) const;
  Evaluation Measure(int64_t batches) override { return {Evaluate(batches), std::nullopt}; }
  int64_t tokens_per_step() const override;

  const TrainConfig& config() const { return config_; }
  ResidualModel& model() { return model_; }
  const DataSource& data() const { return data_; }

 private:
  ModelInput Input(const TrainingBatch& batch) const;
  absl::Status NonFiniteLoss(const TrainingBatch& batch, double loss) const;

  TrainConfig config_;
  ResidualModel& model_;
  const DataSource& data_;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_TRAIN_TRAINER_H_
