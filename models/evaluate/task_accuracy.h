// How often a model gives a generated task's answers.

#ifndef RESIDUAL_MODELS_EVALUATE_TASK_ACCURACY_H_
#define RESIDUAL_MODELS_EVALUATE_TASK_ACCURACY_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "models/stream/residual_model.h"
#include "models/train/data.h"

namespace residual {

struct TaskAccuracy {
  int64_t right = 0, answers = 0;
  // Bytes of the state after the last position of the longest row: what is kept of the past.
  size_t state_bytes = 0;
  double fraction() const { return static_cast<double>(right) / static_cast<double>(answers); }
};

// Over `rows` rows of `data`'s evaluation batches (seed; batches 0, 1, ... of up to `batch_size`
// rows), the share of targets that are the most likely token at their place (of equals the first).
// Rows are read `chunk` positions at a time, with a state between: a row of any length takes the
// memory of a chunk and of the state. InvalidArgument if the model cannot read the rows.
absl::StatusOr<TaskAccuracy> MeasureTaskAccuracy(const ResidualModel& model, const DataSource& data,
                                                 uint64_t seed, int64_t rows, int64_t batch_size,
                                                 int64_t chunk = 512);

}  // namespace residual

#endif  // RESIDUAL_MODELS_EVALUATE_TASK_ACCURACY_H_
