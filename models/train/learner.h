// What a training run drives: a model, its optimizer and what the model learns from. One kind for
// each kind of model (Trainer, ClassifierTrainer); the loop, its files and its checkpoints
// (models/train/run.h) are the same for all.

#ifndef RESIDUAL_MODELS_TRAIN_LEARNER_H_
#define RESIDUAL_MODELS_TRAIN_LEARNER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "models/nn/module.h"
#include "models/train/checkpoint.h"
#include "models/train/optimizer.h"
#include "tensor/autograd/tape.h"

namespace residual {

struct StepResult {
  int64_t step = 0;  // number of this step, from 0
  double loss = 0;   // nats per prediction
  double lr = 0;
  double grad_norm = 0;  // before clipping
  int64_t tokens = 0;
};

// On what training does not see.
struct Evaluation {
  double loss = 0;                 // nats per prediction
  std::optional<double> accuracy;  // share of rows told rightly, of a classifier
};

class Learner {
 public:
  // The model must be initialised and outlive the learner.
  Learner(const OptimizerConfig& optimizer, Module& module)
      : module_(module), optimizer_(optimizer, module) {}
  virtual ~Learner() = default;
  Learner(const Learner&) = delete;
  Learner& operator=(const Learner&) = delete;

  // One step. FailedPrecondition if the loss, a gradient or a weight is NaN or infinite: names it
  // and the step. Weights are as before the step, unless a weight itself became non-finite in the
  // update.
  virtual absl::StatusOr<StepResult> Step() = 0;
  // `batches`: how many, where what to measure on is drawn.
  virtual Evaluation Measure(int64_t batches) = 0;
  virtual int64_t tokens_per_step() const = 0;

  // What it is beside weights, optimizer and step, for checkpoints, and back: see snapshot.h.
  virtual std::vector<CheckpointFile> MoreFiles() { return {}; }
  virtual absl::Status RestoreMore(const std::string& folder) { return absl::OkStatus(); }

  // Steps done so far.
  int64_t step() const { return step_; }
  // For resuming, beside the weights and the optimizer's state: everything else of a run is a pure
  // function of the config and the step.
  void set_step(int64_t step) { step_ = step; }

  Module& module() { return module_; }
  const Module& module() const { return module_; }
  Optimizer& optimizer() { return optimizer_; }

 protected:
  struct Rates {
    double lr = 0, peak_lr = 0;
    double clip_norm = 0;  // 0: no clipping
    int64_t batches = 1;   // the gradients are sums over so many
  };
  // Clips and applies the gradients, one for each of Parameters(module()), undefined where there is
  // none, and counts the step; gives their norm before clipping.
  absl::StatusOr<double> Update(const std::vector<Tensor>& grads, const Rates& rates);

 private:
  Module& module_;
  Optimizer optimizer_;
  int64_t step_ = 0;
};

// Watches parameters within a scope and gives tensors back their sole owner after it.
class WatchedParameters {
 public:
  WatchedParameters(Tape& tape, const std::vector<Parameter>& parameters)
      : parameters_(parameters) {
    for (const Parameter& parameter : parameters) tape.Watch(*parameter.value);
  }
  ~WatchedParameters() {
    for (const Parameter& parameter : parameters_) parameter.value->set_tape_ref({});
  }
  WatchedParameters(const WatchedParameters&) = delete;
  WatchedParameters& operator=(const WatchedParameters&) = delete;

 private:
  const std::vector<Parameter>& parameters_;
};

// "'blocks.0.attn.W_Q' [64, 4, 16] at index 17 (nan)", or nothing.
std::optional<std::string> DescribeNonFinite(const std::string& name, const Tensor& x);

}  // namespace residual

#endif  // RESIDUAL_MODELS_TRAIN_LEARNER_H_
