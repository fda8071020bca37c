// One training step, and what it needs: the arithmetic of a run without files or progress bars.

#ifndef RESIDUAL_MODELS_TRAIN_TRAINER_H_
#define RESIDUAL_MODELS_TRAIN_TRAINER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "models/nn/precision.h"
#include "models/stream/residual_model.h"
#include "models/train/data.h"
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

struct StepResult {
  int64_t step = 0;  // number of this step, from 0
  double loss = 0;   // nats per predicted token
  double lr = 0;
  double grad_norm = 0;  // before clipping
  int64_t tokens = 0;
};

class Trainer {
 public:
  // The model must be initialised; model and data must outlive the trainer.
  Trainer(const TrainConfig& config, ResidualModel& model, const DataSource& data);

  // One step. FailedPrecondition if the loss, a gradient or a weight is NaN or infinite: names the
  // tensor, the index and the step. Weights are as before the step, unless a weight itself became
  // non-finite in the update.
  absl::StatusOr<StepResult> Step();

  // Mean loss over `batches` evaluation batches, nats per predicted token.
  double Evaluate(int64_t batches) const;

  // Steps done so far.
  int64_t step() const { return step_; }
  // For resuming, beside the weights and the optimizer's state: everything else of a run is a pure
  // function of the config and the step.
  void set_step(int64_t step) { step_ = step; }

  const TrainConfig& config() const { return config_; }
  ResidualModel& model() { return model_; }
  const DataSource& data() const { return data_; }
  Optimizer& optimizer() { return optimizer_; }

 private:
  ModelInput Input(const TrainingBatch& batch) const;
  absl::Status NonFiniteLoss(const TrainingBatch& batch, double loss) const;

  TrainConfig config_;
  ResidualModel& model_;
  const DataSource& data_;
  Optimizer optimizer_;
  int64_t step_ = 0;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_TRAIN_TRAINER_H_
