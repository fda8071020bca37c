// The numbers of a run as JSON Lines: one object for each step, in order, none twice.
//
//   {"step":100,"loss":2.31,"lr":0.001,"grad_norm":0.8,"tokens":409600,"tokens_per_second":51000.0,
//    "eval_loss":2.4}
//
// step: steps done, from 1; loss: nats per predicted token of that step's batches, before its
// update; tokens: read since the run began; eval_loss: after the update, on the steps that
// evaluate; eval_accuracy beside it, of a classifier.

#ifndef RESIDUAL_MODELS_TRAIN_METRICS_H_
#define RESIDUAL_MODELS_TRAIN_METRICS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace residual {

struct StepMetrics {
  int64_t step = 0;
  double loss = 0, lr = 0, grad_norm = 0;
  int64_t tokens = 0;
  double tokens_per_second = 0;
  std::optional<double> eval_loss;
  std::optional<double> eval_accuracy;
};

class MetricsFile {
 public:
  // Opens `path` for a run that goes on after `step` steps: keeps the lines up to it and drops
  // those of later steps, which the run will do again, and a line cut short by a crash. `step` 0: a
  // new file. Errors name the path.
  static absl::StatusOr<std::unique_ptr<MetricsFile>> Open(const std::string& path, int64_t step);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;

  // One line, given to the system at once: what a killed process appended is there.
  absl::Status Append(const StepMetrics& metrics);
  // What was appended survives a power cut.
  absl::Status Sync();

 private:
  MetricsFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  std::string path_;
  int fd_;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_TRAIN_METRICS_H_
