#include "models/train/run.h"

#include <chrono>
#include <cmath>
#include <memory>

#include "absl/strings/str_cat.h"
#include "models/train/checkpoint.h"
#include "models/train/snapshot.h"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

bool Every(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

class Run {
 public:
  Run(const RunConfig& config, const RunOptions& options, Learner& learner, CheckpointStore store)
      : config_(config), options_(options), learner_(learner), store_(std::move(store)) {}

  absl::StatusOr<RunResult> Go() {
    const double start = Now();
    RESIDUAL_RETURN_IF_ERROR(Begin());
    while (result_.step < config_.steps) {
      if (options_.stop != nullptr && options_.stop->load()) {
        result_.stopped = true;
        break;
      }
      RESIDUAL_RETURN_IF_ERROR(Step());
      if (Every(result_.step, config_.checkpoint_every)) RESIDUAL_RETURN_IF_ERROR(Save());
    }
    if (saved_step_ != result_.step) RESIDUAL_RETURN_IF_ERROR(Save());
    result_.seconds = Now() - start;
    return std::move(result_);
  }

 private:
  absl::Status Begin() {
    const absl::StatusOr<CheckpointStore::Found> found = store_.Newest();
    if (!options_.resume) {
      if (!absl::IsNotFound(found.status())) {
        return absl::FailedPreconditionError(
            absl::StrCat(options_.folder,
                         ": has checkpoints of an earlier run; resume it, or "
                         "choose another folder"));
      }
    } else if (found.ok()) {
      RESIDUAL_RETURN_IF_ERROR(RestoreSnapshot(found->path, learner_));
      if (learner_.step() != found->step) {
        return absl::DataLossError(absl::StrCat(found->path, ": holds step ", learner_.step(),
                                                ", expected ", found->step));
      }
      result_.notes = found->notes;
      result_.checkpoint = found->path;
      saved_step_ = found->step;
    } else if (!absl::IsNotFound(found.status())) {
      return found.status();
    }
    result_.first_step = result_.step = learner_.step();
    result_.tokens = result_.step * learner_.tokens_per_step();
    RESIDUAL_ASSIGN_OR_RETURN(
        metrics_, MetricsFile::Open(JoinPath(options_.folder, "metrics.jsonl"), result_.step));
    if (options_.on_start) options_.on_start(result_);
    return absl::OkStatus();
  }

  absl::Status Step() {
    const double start = Now();
    absl::StatusOr<StepResult> step = learner_.Step();
    if (!step.ok()) return Stopped(step.status());
    const double seconds = Now() - start;
    StepMetrics metrics;
    metrics.step = result_.step = learner_.step();
    metrics.loss = result_.loss = step->loss;
    metrics.lr = step->lr;
    metrics.grad_norm = step->grad_norm;
    metrics.tokens = result_.tokens = result_.step * learner_.tokens_per_step();
    metrics.tokens_per_second = seconds > 0 ? step->tokens / seconds : 0;
    if (config_.eval_every > 0 && config_.eval_batches > 0 &&
        (Every(result_.step, config_.eval_every) || result_.step == config_.steps)) {
      const Evaluation evaluation = learner_.Measure(config_.eval_batches);
      metrics.eval_loss = result_.eval_loss = evaluation.loss;
      metrics.eval_accuracy = result_.eval_accuracy = evaluation.accuracy;
      if (!std::isfinite(*metrics.eval_loss)) {
        return Stopped(absl::FailedPreconditionError(
            absl::StrCat("step ", step->step, ": the evaluation loss is ", *metrics.eval_loss)));
      }
    }
    RESIDUAL_RETURN_IF_ERROR(metrics_->Append(metrics));
    if (options_.on_step) options_.on_step(metrics);
    return absl::OkStatus();
  }

  // What is not finite is not saved.
  absl::Status Stopped(const absl::Status& status) const {
    return absl::Status(
        status.code(),
        absl::StrCat(status.message(),
                     result_.checkpoint.empty()
                         ? "; there is no checkpoint yet"
                         : absl::StrCat("; the last good checkpoint is ", result_.checkpoint)));
  }

  absl::Status Save() {
    // First the lines, then the checkpoint that counts on them.
    RESIDUAL_RETURN_IF_ERROR(metrics_->Sync());
    std::vector<CheckpointFile> files = SnapshotFiles(learner_);
    for (const auto& [name, contents] : options_.files) {
      files.push_back({name, [&contents = contents](const std::string& path) {
                         return WriteFileAtomically(path, contents);
                       }});
    }
    RESIDUAL_RETURN_IF_ERROR(store_.Write(result_.step, files));
    saved_step_ = result_.step;
    result_.checkpoint = store_.PathOf(result_.step);
    return absl::OkStatus();
  }

  const RunConfig& config_;
  const RunOptions& options_;
  Learner& learner_;
  CheckpointStore store_;
  std::unique_ptr<MetricsFile> metrics_;
  RunResult result_;
  int64_t saved_step_ = -1;
};

}  // namespace

std::string CheckpointsFolder(const std::string& run_folder) {
  return JoinPath(run_folder, "checkpoints");
}

absl::StatusOr<RunResult> RunTraining(const RunConfig& config, const RunOptions& options,
                                      Learner& learner) {
  RESIDUAL_CHECK_GE(config.steps, 0);
  RESIDUAL_ASSIGN_OR_RETURN(CheckpointStore store,
                            CheckpointStore::Open(CheckpointsFolder(options.folder)));
  return Run(config, options, learner, std::move(store)).Go();
}

absl::StatusOr<RunResult> RunTraining(const RunConfig& config, const RunOptions& options,
                                      ResidualModel& model, const DataSource& data) {
  Trainer trainer(config.train, model, data);
  return RunTraining(config, options, trainer);
}

}  // namespace residual
