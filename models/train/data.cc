#include "models/train/data.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tensor/base/random.h"

namespace residual {
namespace {

// Random numbers of one row: independent of every other row of the run.
Philox RowRandom(const char* what, uint64_t seed, int64_t step, int64_t row) {
  return Philox(seed, RandomStream(what, static_cast<uint64_t>(step), static_cast<uint64_t>(row)));
}

// Length of a passage that is repeated in a row of n + 1 tokens.
int64_t PassageLength(const Philox& random, uint64_t index, int64_t context) {
  const int64_t low = std::max<int64_t>(1, context / 8), high = std::max(low, context / 2);
  return low + random.Below(index, high - low + 1);
}

// Splits rows of context + 1 tokens into what is read and what is to be predicted.
TrainingBatch FromRows(const std::vector<int64_t>& rows, int64_t batch_size, int64_t context) {
  TrainingBatch batch{Tensor::Uninitialized({batch_size, context}, kI64),
                      Tensor::Uninitialized({batch_size, context}, kI64)};
  int64_t* tokens = batch.tokens.mutable_data<int64_t>();
  int64_t* targets = batch.targets.mutable_data<int64_t>();
  for (int64_t r = 0; r < batch_size; ++r) {
    const int64_t* row = rows.data() + r * (context + 1);
    std::copy(row, row + context, tokens + r * context);
    std::copy(row + 1, row + context + 1, targets + r * context);
  }
  return batch;
}

class TextData : public DataSource {
 public:
  TextData(std::vector<int32_t> tokens, int64_t d_vocab, int64_t train, const TextOptions& options)
      : tokens_(std::move(tokens)), d_vocab_(d_vocab), train_(train), options_(options) {}

  TrainingBatch Batch(uint64_t seed, int64_t step, int64_t batch_size) const override {
    return Windows("text window", seed, step, batch_size, 0, train_, options_.repeat);
  }

  TrainingBatch EvalBatch(uint64_t seed, int64_t index, int64_t batch_size) const override {
    return Windows("text eval window", seed, index, batch_size, train_,
                   static_cast<int64_t>(tokens_.size()), options_.eval_repeat);
  }

  int64_t d_vocab() const override { return d_vocab_; }
  int64_t context() const override { return options_.context; }

 private:
  TrainingBatch Windows(const char* what, uint64_t seed, int64_t step, int64_t batch_size,
                        int64_t begin, int64_t end, double repeat) const {
    const int64_t n = options_.context + 1;
    std::vector<int64_t> rows(batch_size * n);
    for (int64_t r = 0; r < batch_size; ++r) {
      const Philox random = RowRandom(what, seed, step, r);
      const bool repeats = random.UniformDouble(0) < repeat;
      const int64_t length = repeats ? PassageLength(random, 1, options_.context) : n;
      const int64_t start = begin + random.Below(2, end - begin - length + 1);
      for (int64_t i = 0; i < n; ++i) rows[r * n + i] = tokens_[start + i % length];
    }
    return FromRows(rows, batch_size, options_.context);
  }

  const std::vector<int32_t> tokens_;
  const int64_t d_vocab_, train_;
  const TextOptions options_;
};

class RepeatedTokens : public DataSource {
 public:
  RepeatedTokens(int64_t d_vocab, int64_t context) : d_vocab_(d_vocab), context_(context) {}

  TrainingBatch Batch(uint64_t seed, int64_t step, int64_t batch_size) const override {
    return Rows("repeated tokens", seed, step, batch_size);
  }
  TrainingBatch EvalBatch(uint64_t seed, int64_t index, int64_t batch_size) const override {
    return Rows("repeated tokens eval", seed, index, batch_size);
  }
  int64_t d_vocab() const override { return d_vocab_; }
  int64_t context() const override { return context_; }

 private:
  TrainingBatch Rows(const char* what, uint64_t seed, int64_t step, int64_t batch_size) const {
    const int64_t n = context_ + 1;
    std::vector<int64_t> rows(batch_size * n);
    std::vector<int64_t> lengths(batch_size);
    for (int64_t r = 0; r < batch_size; ++r) {
      const Philox random = RowRandom(what, seed, step, r);
      const int64_t length = lengths[r] = PassageLength(random, 0, context_);
      for (int64_t i = 0; i < n; ++i) {
        rows[r * n + i] = i < length ? random.Below(1 + i, d_vocab_) : rows[r * n + i - length];
      }
    }
    TrainingBatch batch = FromRows(rows, batch_size, context_);
    int64_t* targets = batch.targets.mutable_data<int64_t>();
    for (int64_t r = 0; r < batch_size; ++r) {
      std::fill_n(targets + r * context_, std::min(context_, lengths[r] - 1), kIgnoreTarget);
    }
    return batch;
  }

  const int64_t d_vocab_, context_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DataSource>> MakeTextData(std::vector<int32_t> tokens,
                                                         int64_t d_vocab,
                                                         const TextOptions& options) {
  if (options.context < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("the context is ", options.context, ", expected at least 1 token"));
  }
  for (double repeat : {options.repeat, options.eval_repeat}) {
    if (!(repeat >= 0 && repeat <= 1)) {
      return absl::InvalidArgumentError(
          absl::StrCat("repeat is ", repeat, ", expected a probability in [0, 1]"));
    }
  }
  if (!(options.eval_fraction > 0 && options.eval_fraction < 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("eval_fraction is ", options.eval_fraction, ", expected a number in (0, 1)"));
  }
  const int64_t n = static_cast<int64_t>(tokens.size()), window = options.context + 1;
  if (n < 2 * window) {
    return absl::InvalidArgumentError(
        absl::StrCat("the text has ", n, " tokens, expected at least ", 2 * window,
                     ": a window of context + 1 = ", window, " to train and one to evaluate on"));
  }
  for (int32_t id : tokens) {
    if (id < 0 || id >= d_vocab) {
      return absl::InvalidArgumentError(
          absl::StrCat("token ", id, " is outside the vocabulary of ", d_vocab));
    }
  }
  const int64_t eval = std::max(window, static_cast<int64_t>(options.eval_fraction * n));
  return std::make_unique<TextData>(std::move(tokens), d_vocab, std::max(window, n - eval),
                                    options);
}

absl::StatusOr<std::unique_ptr<DataSource>> MakeRepeatedTokens(int64_t d_vocab, int64_t context) {
  if (d_vocab < 2 || context < 2) {
    return absl::InvalidArgumentError(absl::StrCat("a vocabulary of ", d_vocab,
                                                   " and a context of ", context,
                                                   ", expected at least 2 of each"));
  }
  return std::make_unique<RepeatedTokens>(d_vocab, context);
}

}  // namespace residual
