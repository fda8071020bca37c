#include "models/data/tasks/tasks.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "models/nn/nearest.h"
#include "tensor/base/random.h"

namespace residual {
namespace {

// The random numbers of one row, drawn one after another.
class RowRandom {
 public:
  RowRandom(const std::string& task, uint64_t seed, int64_t step, int64_t row)
      : random_(seed, RandomStream(task.c_str(), static_cast<uint64_t>(step),
                                   static_cast<uint64_t>(row))) {}
  int64_t Below(int64_t n) { return random_.Below(next_++, n); }
  double Uniform() { return random_.UniformDouble(next_++); }

  // Which `chosen` of [0, n), in rising order (Knuth 3.4.2, algorithm S).
  std::vector<int64_t> Subset(int64_t n, int64_t chosen) {
    std::vector<int64_t> subset;
    for (int64_t i = 0; static_cast<int64_t>(subset.size()) < chosen; ++i) {
      const int64_t wanted = chosen - static_cast<int64_t>(subset.size());
      if (Uniform() * static_cast<double>(n - i) < static_cast<double>(wanted)) subset.push_back(i);
    }
    return subset;
  }

  // `chosen` different ones of [0, n) in random order (Fisher and Yates, sparsely).
  std::vector<int64_t> Arrangement(int64_t n, int64_t chosen) {
    std::vector<int64_t> all(n);
    std::iota(all.begin(), all.end(), 0);
    for (int64_t i = 0; i < chosen; ++i) std::swap(all[i], all[i + Below(n - i)]);
    all.resize(chosen);
    return all;
  }

 private:
  Philox random_;
  uint64_t next_ = 0;
};

struct Row {
  int64_t* tokens;   // [context], all of them to be written
  int64_t* targets;  // [context], kIgnoreTarget everywhere
};

// A task whose rows are independent of one another.
class RowTask : public DataSource {
 public:
  RowTask(std::string name, const TaskOptions& options)
      : name_(std::move(name)), options_(options) {}

  TrainingBatch Batch(uint64_t seed, int64_t step, int64_t batch_size) const override {
    return Rows(name_, seed, step, batch_size);
  }
  TrainingBatch EvalBatch(uint64_t seed, int64_t index, int64_t batch_size) const override {
    return Rows(name_ + " eval", seed, index, batch_size);
  }
  int64_t d_vocab() const override { return options_.d_vocab; }
  int64_t context() const override { return options_.context; }

 protected:
  virtual void Fill(RowRandom& random, const Row& row) const = 0;
  const TaskOptions& options() const { return options_; }

 private:
  TrainingBatch Rows(const std::string& stream, uint64_t seed, int64_t step,
                     int64_t batch_size) const {
    const int64_t n = options_.context;
    TrainingBatch batch{Tensor::Uninitialized({batch_size, n}, kI64),
                        Tensor::Uninitialized({batch_size, n}, kI64)};
    int64_t* tokens = batch.tokens.mutable_data<int64_t>();
    int64_t* targets = batch.targets.mutable_data<int64_t>();
    std::fill_n(targets, batch_size * n, kIgnoreTarget);
    for (int64_t r = 0; r < batch_size; ++r) {
      RowRandom random(stream, seed, step, r);
      Fill(random, {tokens + r * n, targets + r * n});
    }
    return batch;
  }

  const std::string name_;
  const TaskOptions options_;
};

class SelectiveCopying : public RowTask {
 public:
  using RowTask::RowTask;

 private:
  void Fill(RowRandom& random, const Row& row) const override {
    const int64_t items = options().n_items, read = options().context - items;
    std::fill_n(row.tokens, read, 0);
    std::fill_n(row.tokens + read, items, options().d_vocab - 1);
    int64_t* target = row.targets + read;
    for (int64_t at : random.Subset(read, items)) {
      *target++ = row.tokens[at] = 1 + random.Below(options().d_vocab - 2);
    }
  }
};

class InductionHeads : public RowTask {
 public:
  using RowTask::RowTask;

 private:
  void Fill(RowRandom& random, const Row& row) const override {
    const int64_t n = options().context, special = options().d_vocab - 1;
    for (int64_t i = 0; i < n; ++i) row.tokens[i] = random.Below(special);
    const int64_t first = random.Below(n - 2);  // what follows it is never the last token
    row.tokens[first] = row.tokens[n - 1] = special;
    row.targets[n - 1] = row.tokens[first + 1];
  }
};

class AssociativeRecall : public RowTask {
 public:
  using RowTask::RowTask;

 private:
  void Fill(RowRandom& random, const Row& row) const override {
    const int64_t n = options().context, pairs = options().n_items;
    const int64_t keys = options().d_vocab / 2, values = options().d_vocab - keys;
    // What is no key and no value is filled with what asks nothing: any value.
    for (int64_t i = 2 * pairs; i < n; ++i) row.tokens[i] = keys + random.Below(values);
    const std::vector<int64_t> key = random.Arrangement(keys, pairs);
    const std::vector<int64_t> places = QueryPlaces(random, (n - 2 * pairs) / 2, pairs);
    for (int64_t i = 0; i < pairs; ++i) {
      const int64_t value = keys + random.Below(values), asked = 2 * pairs + 2 * places[i];
      row.tokens[2 * i] = key[i];
      row.tokens[2 * i + 1] = value;
      row.tokens[asked] = key[i];
      row.targets[asked] = value;
    }
  }

  // `pairs` different places of [0, places), the near ones likelier: the i-th with weight
  // i^(a - 1), a = 0.01, as queries in language do. Drawn without replacement as the smallest of
  // exponential times with these rates.
  static std::vector<int64_t> QueryPlaces(RowRandom& random, int64_t places, int64_t pairs) {
    std::vector<std::pair<double, int64_t>> times(places);
    for (int64_t i = 0; i < places; ++i) {
      const double rate = std::pow(static_cast<double>(i + 1), 0.01 - 1);
      times[i] = {-std::log1p(-random.Uniform()) / rate, i};
    }
    std::partial_sort(times.begin(), times.begin() + pairs, times.end());
    std::vector<int64_t> chosen;
    for (int64_t i = 0; i < pairs; ++i) chosen.push_back(times[i].second);
    return chosen;
  }
};

absl::Status Wrong(const std::string& task, const char* option, int64_t found,
                   const std::string& expected) {
  return absl::InvalidArgumentError(
      absl::StrCat(task, ": ", option, " is ", found, ", expected ", expected));
}

absl::Status NoItems(const std::string& task, const TaskOptions& options) {
  if (options.n_items == 0) return absl::OkStatus();
  return Wrong(task, "n_items", options.n_items, "0: it has none");
}

using MaybeData = absl::StatusOr<std::unique_ptr<DataSource>>;

MaybeData MakeRepeated(const std::string& name, TaskOptions options) {
  if (absl::Status status = NoItems(name, options); !status.ok()) return status;
  return MakeRepeatedTokens(options.d_vocab == 0 ? 64 : options.d_vocab, options.context);
}

MaybeData MakeCopying(const std::string& name, TaskOptions options) {
  if (options.d_vocab == 0) options.d_vocab = 16;
  if (options.n_items == 0) options.n_items = 16;
  if (options.d_vocab < 3) {
    return Wrong(name, "d_vocab", options.d_vocab, "at least 3: noise, one to copy, the marker");
  }
  if (options.n_items < 1 || options.n_items > options.context / 2) {
    return Wrong(name, "n_items", options.n_items,
                 absl::StrCat("1 to half of the context, ", options.context / 2));
  }
  return std::make_unique<SelectiveCopying>(name, options);
}

MaybeData MakeInduction(const std::string& name, TaskOptions options) {
  if (options.d_vocab == 0) options.d_vocab = 16;
  if (absl::Status status = NoItems(name, options); !status.ok()) return status;
  if (options.d_vocab < 3) {
    return Wrong(name, "d_vocab", options.d_vocab, "at least 3: two tokens and the special one");
  }
  if (options.context < 3) {
    return Wrong(name, "context", options.context,
                 "at least 3: the special token, what follows, the special token again");
  }
  return std::make_unique<InductionHeads>(name, options);
}

MaybeData MakeRecall(const std::string& name, TaskOptions options) {
  if (options.d_vocab == 0) options.d_vocab = 8192;
  if (options.n_items == 0) options.n_items = std::max<int64_t>(1, options.context / 8);
  if (options.n_items < 1 || options.n_items > options.context / 4) {
    return Wrong(name, "n_items", options.n_items,
                 absl::StrCat("1 to a quarter of the context, ", options.context / 4,
                              ": a pair takes two places and its query two more"));
  }
  if (options.d_vocab < 2 * options.n_items) {
    return Wrong(name, "d_vocab", options.d_vocab,
                 absl::StrCat("at least ", 2 * options.n_items, ": ", options.n_items,
                              " different keys in its first half"));
  }
  return std::make_unique<AssociativeRecall>(name, options);
}

struct Task {
  const char* name;
  MaybeData (*make)(const std::string& name, TaskOptions options);
};

constexpr Task kTasks[] = {{"repeated_tokens", MakeRepeated},
                           {"selective_copying", MakeCopying},
                           {"induction_heads", MakeInduction},
                           {"associative_recall", MakeRecall}};

}  // namespace

std::vector<std::string> TaskNames() {
  std::vector<std::string> names;
  for (const Task& task : kTasks) names.push_back(task.name);
  return names;
}

MaybeData MakeTask(const std::string& name, const TaskOptions& options) {
  for (const Task& task : kTasks) {
    if (name == task.name) return task.make(name, options);
  }
  return absl::InvalidArgumentError(absl::StrCat("no task '", name, "', expected one of ",
                                                 absl::StrJoin(TaskNames(), ", "),
                                                 DidYouMean(name, TaskNames())));
}

}  // namespace residual
