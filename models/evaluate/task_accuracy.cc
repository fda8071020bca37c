#include "models/evaluate/task_accuracy.h"

#include <algorithm>

#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

// Columns [begin, end) of an i64 [rows, columns].
Tensor Columns(const Tensor& x, int64_t begin, int64_t end) {
  const int64_t rows = x.dim(0), width = end - begin;
  Tensor part = Tensor::Uninitialized({rows, width}, kI64);
  int64_t* out = part.mutable_data<int64_t>();
  for (int64_t r = 0; r < rows; ++r) {
    std::copy_n(x.data<int64_t>() + r * x.dim(1) + begin, width, out + r * width);
  }
  return part;
}

// The earliest position of `targets` [rows, columns] that has one in any row; columns if none has.
int64_t FirstTarget(const Tensor& targets) {
  int64_t first = targets.dim(1);
  for (int64_t r = 0; r < targets.dim(0); ++r) {
    const int64_t* row = targets.data<int64_t>() + r * targets.dim(1);
    first = std::find_if(row, row + first, [](int64_t t) { return t != kIgnoreTarget; }) - row;
  }
  return first;
}

// Adds up the answers in logits [rows, last, vocabulary], those of the last positions.
void Count(const Tensor& logits, const Tensor& targets, TaskAccuracy& counts) {
  const int64_t last = logits.dim(1), kinds = logits.dim(2), columns = targets.dim(1);
  for (int64_t r = 0; r < targets.dim(0); ++r) {
    for (int64_t i = 0; i < last; ++i) {
      const int64_t target = targets.data<int64_t>()[r * columns + columns - last + i];
      if (target == kIgnoreTarget) continue;
      const float* row = logits.data<float>() + (r * last + i) * kinds;
      ++counts.answers;
      counts.right += std::max_element(row, row + kinds) - row == target;
    }
  }
}

}  // namespace

absl::StatusOr<TaskAccuracy> MeasureTaskAccuracy(const ResidualModel& model, const DataSource& data,
                                                 uint64_t seed, int64_t rows, int64_t batch_size,
                                                 int64_t chunk) {
  RESIDUAL_CHECK(rows >= 1 && batch_size >= 1 && chunk >= 1)
      << "task accuracy: rows " << rows << ", batch_size " << batch_size << ", chunk " << chunk;
  TaskAccuracy counts;
  for (int64_t begin = 0, index = 0; begin < rows; begin += batch_size, ++index) {
    const TrainingBatch batch = data.EvalBatch(seed, index, std::min(batch_size, rows - begin));
    ModelState state = model.NewState(batch.tokens.dim(0));
    const int64_t n = batch.tokens.dim(1);
    RESIDUAL_RETURN_IF_ERROR(model.Validate({batch.tokens}));
    for (int64_t i = 0; i < n; i += chunk) {
      const int64_t end = std::min(n, i + chunk);
      const Tensor targets = Columns(batch.targets, i, end);
      ModelInput input{Columns(batch.tokens, i, end)};
      // Logits from the first answer on; a forward gives one position's at least.
      input.last_logits = std::max<int64_t>(1, end - i - FirstTarget(targets));
      Count(model.Forward(input, &state), targets, counts);
    }
    counts.state_bytes = std::max(counts.state_bytes, state.bytes());
  }
  return counts;
}

}  // namespace residual
