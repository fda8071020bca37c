#include "models/train/snapshot.h"

#include <cstdint>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "models/nn/module.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"
#include "tensor/io/safetensors.h"

namespace residual {
namespace {

constexpr char kWeights[] = "model.safetensors";
constexpr char kOptimizer[] = "optimizer.safetensors";

absl::Status WriteWeights(Learner& learner, const std::string& path) {
  std::vector<NamedTensor> tensors;
  for (const Parameter& parameter : Parameters(learner.module())) {
    tensors.emplace_back(parameter.name, ToDisk(parameter, *parameter.value));
  }
  return WriteSafetensors(path, tensors, {{"format", "pt"}});
}

absl::Status WriteOptimizer(Learner& learner, const std::string& path) {
  const Optimizer& optimizer = learner.optimizer();
  return WriteSafetensors(path, optimizer.State(),
                          {{"optimizer", OptimizerKindName(optimizer.config().kind)},
                           {"step", absl::StrCat(learner.step())}});
}

absl::Status ReadWeights(const std::string& path, Learner& learner) {
  RESIDUAL_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(path));
  for (const Parameter& parameter : Parameters(learner.module())) {
    RESIDUAL_ASSIGN_OR_RETURN(Tensor value, ReadParameter(file, parameter));
    // Into the bytes there are: a restart takes no new memory.
    CopyBytes(value, *parameter.value);
  }
  return absl::OkStatus();
}

absl::Status ReadOptimizer(const std::string& path, Learner& learner) {
  RESIDUAL_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(path));
  const auto step_text = file.metadata().find("step");
  int64_t step = 0;
  if (step_text == file.metadata().end() || !absl::SimpleAtoi(step_text->second, &step) ||
      step < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": the metadata 'step' is ",
                     step_text == file.metadata().end() ? "missing" : step_text->second,
                     ", expected a number from 0"));
  }
  std::vector<NamedTensor> state;
  for (const TensorInfo& info : file.tensors()) {
    RESIDUAL_ASSIGN_OR_RETURN(Tensor tensor, file.Read(info.name));
    state.emplace_back(info.name, std::move(tensor));
  }
  const absl::Status status = learner.optimizer().SetState(step, std::move(state));
  if (!status.ok()) {
    return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
  }
  learner.set_step(step);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Tensor> ReadParameter(const SafetensorsFile& file, const Parameter& parameter) {
  RESIDUAL_ASSIGN_OR_RETURN(const Tensor stored, file.Read(parameter.name));
  const Shape shape = DiskShape(parameter);
  const DType dtype = parameter.value->dtype();
  if (stored.shape() != shape || stored.dtype() != dtype) {
    return absl::InvalidArgumentError(absl::StrCat(file.path(), ": '", parameter.name, "' is ",
                                                   stored.ToString(), ", expected ", Name(dtype),
                                                   shape.ToString()));
  }
  return FromDisk(parameter, stored);
}

std::vector<CheckpointFile> SnapshotFiles(Learner& learner) {
  std::vector<CheckpointFile> files = {
      {kWeights, [&](const std::string& path) { return WriteWeights(learner, path); }},
      {kOptimizer, [&](const std::string& path) { return WriteOptimizer(learner, path); }}};
  for (CheckpointFile& file : learner.MoreFiles()) files.push_back(std::move(file));
  return files;
}

absl::Status RestoreSnapshot(const std::string& folder, Learner& learner) {
  RESIDUAL_RETURN_IF_ERROR(ReadWeights(JoinPath(folder, kWeights), learner));
  RESIDUAL_RETURN_IF_ERROR(ReadOptimizer(JoinPath(folder, kOptimizer), learner));
  return learner.RestoreMore(folder);
}

}  // namespace residual
