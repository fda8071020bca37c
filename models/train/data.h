// What a model is trained on. A batch is a pure function of (seed, step), so a run can be resumed,
// split or repeated without keeping any state of the data.

#ifndef RESIDUAL_MODELS_TRAIN_DATA_H_
#define RESIDUAL_MODELS_TRAIN_DATA_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tensor/core/tensor.h"

namespace residual {

// The target of a position that does not count.
inline constexpr int64_t kIgnoreTarget = -100;

struct TrainingBatch {
  Tensor tokens;   // i64 [batch, pos]
  Tensor targets;  // i64 [batch, pos]: the token to predict after each, or kIgnoreTarget
};

class DataSource {
 public:
  virtual ~DataSource() = default;
  // The batch of a training step.
  virtual TrainingBatch Batch(uint64_t seed, int64_t step, int64_t batch_size) const = 0;
  // The same from what training never sees; `index` in place of the step.
  virtual TrainingBatch EvalBatch(uint64_t seed, int64_t index, int64_t batch_size) const = 0;
  virtual int64_t d_vocab() const = 0;
  virtual int64_t context() const = 0;  // positions per row
};

struct TextOptions {
  int64_t context = 128;
  double eval_fraction = 0.1;  // the last part of the text
  // With this probability a window is a passage of T/8 to T/2 tokens, repeated to fill it, as
  // documents repeat themselves: it brings the phase change from billions of tokens to a minute.
  double repeat = 0;
  // The same for evaluation windows; 0: the text as it is.
  double eval_repeat = 0;
};

// Windows of a tokenised text. InvalidArgument if the text is shorter than two windows (one to
// train, one to evaluate on) or an id is outside the vocabulary.
absl::StatusOr<std::unique_ptr<DataSource>> MakeTextData(std::vector<int32_t> tokens,
                                                         int64_t d_vocab,
                                                         const TextOptions& options);

// Uniformly random tokens [0, d_vocab); a random passage of T/8 to T/2 tokens repeated to fill the
// row. Only what follows the first passage can be predicted; the rest is kIgnoreTarget.
absl::StatusOr<std::unique_ptr<DataSource>> MakeRepeatedTokens(int64_t d_vocab, int64_t context);

}  // namespace residual

#endif  // RESIDUAL_MODELS_TRAIN_DATA_H_
