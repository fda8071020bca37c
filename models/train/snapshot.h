// All that a training run is beside its config, as files: weights, optimizer state, step. What goes
// on from them has the bits of a run that was never interrupted.

#ifndef RESIDUAL_MODELS_TRAIN_SNAPSHOT_H_
#define RESIDUAL_MODELS_TRAIN_SNAPSHOT_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "models/nn/module.h"
#include "models/train/checkpoint.h"
#include "models/train/learner.h"
#include "tensor/io/safetensors.h"

namespace residual {

// model.safetensors: the parameters under their own names, heads first, as a folder of the kind
// "residual" has them, so with a config.json beside it a checkpoint opens as a model.
// optimizer.safetensors: Optimizer::State; metadata "optimizer" and "step". Then its MoreFiles. The
// learner must outlive the result.
std::vector<CheckpointFile> SnapshotFiles(Learner& learner);

// A parameter's value in a file that has it under its own name, heads first; it may lie in the
// mapped file. InvalidArgument names file, tensor, what was found and what was expected.
absl::StatusOr<Tensor> ReadParameter(const SafetensorsFile& file, const Parameter& parameter);

// Puts the state of these files of `folder` into a learner of the same config, bit for bit.
// InvalidArgument names file, tensor, what was found and what was expected; the model's weights may
// be changed then.
absl::Status RestoreSnapshot(const std::string& folder, Learner& learner);

}  // namespace residual

#endif  // RESIDUAL_MODELS_TRAIN_SNAPSHOT_H_
