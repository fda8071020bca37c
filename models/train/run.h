// A training run: steps, evaluation, metrics and checkpoints, from the beginning or from where it
// was cut off, to the end or until it is asked to stop.
//
// A run is a pure function of its config: stopped, killed and resumed however often, and for any
// number of threads, it ends with the same bits.

#ifndef RESIDUAL_MODELS_TRAIN_RUN_H_
#define RESIDUAL_MODELS_TRAIN_RUN_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "models/stream/residual_model.h"
#include "models/train/data.h"
#include "models/train/learner.h"
#include "models/train/metrics.h"
#include "models/train/trainer.h"

namespace residual {

struct RunConfig {
  TrainConfig train;
  int64_t steps = 1000;
  int64_t eval_every = 100;  // steps; also after the last one. 0: never
  int64_t eval_batches = 8;
  int64_t checkpoint_every = 500;  // steps; also after the last one. 0: only then
};

struct RunResult;

struct RunOptions {
  // Gets checkpoints/ and metrics.jsonl; made if need be.
  std::string folder;
  // Go on from the newest checkpoint, from the beginning where there is none yet. Else a folder
  // that has checkpoints is refused.
  bool resume = false;
  // Put into every checkpoint, as (name, contents): a config.json makes it a model's folder.
  std::vector<std::pair<std::string, std::string>> files;
  // Called once, before the first step, with what is known then: first_step, checkpoint, notes.
  std::function<void(const RunResult&)> on_start;
  // Called after every step.
  std::function<void(const StepMetrics&)> on_step;
  // Set from elsewhere (a signal handler): the run saves after the step it is in and returns.
  const std::atomic<bool>* stop = nullptr;
};

struct RunResult {
  int64_t first_step = 0;               // steps done when it began: 0, or those of the checkpoint
  int64_t step = 0;                     // steps done
  bool stopped = false;                 // by `stop`, before the last step
  double loss = 0;                      // of the last step; 0 if there was none
  std::optional<double> eval_loss;      // the last one measured
  std::optional<double> eval_accuracy;  // beside it, of a classifier
  int64_t tokens = 0;                   // read by all steps done
  double seconds = 0;                   // of this process
  std::string checkpoint;               // the newest one's folder
  std::vector<std::string> notes;       // checkpoints that were passed over, and why
};

// Trains `model`, which must be initialised. FailedPrecondition: checkpoints of another run are in
// the folder, another process uses it, or something became NaN or infinite; then nothing is saved,
// and the message says what, where, in which step and which checkpoint is the last good one.
// DataLoss: resuming, and no checkpoint is whole. Else what reading or writing gave. On any error
// the checkpoints there were stay.
absl::StatusOr<RunResult> RunTraining(const RunConfig& config, const RunOptions& options,
                                      ResidualModel& model, const DataSource& data);
// The same of any learner, config.train apart, which is its own.
absl::StatusOr<RunResult> RunTraining(const RunConfig& config, const RunOptions& options,
                                      Learner& learner);

// The folder of a run's checkpoints.
std::string CheckpointsFolder(const std::string& run_folder);

}  // namespace residual

#endif  // RESIDUAL_MODELS_TRAIN_RUN_H_
