#include "models/train/run.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/train/checkpoint.h"
#include "models/train/testing.h"
#include "nlohmann/json.hpp"
#include "tensor/base/parallel.h"
#include "tensor/base/random.h"
#include "tensor/io/file.h"
#include "tensor/io/safetensors.h"

namespace residual {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kSteps = 24;

class RunTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = JoinPath(::testing::TempDir(),
                     ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(root_);
    data_ = TinyText();
    config_.train.batch_size = 2;
    config_.train.schedule.kind = ScheduleKind::kCosine;
    config_.train.schedule.lr = 1e-2;
    config_.train.schedule.warmup_steps = 3;
    config_.train.schedule.total_steps = kSteps;
    config_.steps = kSteps;
    config_.eval_every = 10;
    config_.eval_batches = 2;
    config_.checkpoint_every = 0;
    model_config_ = TinyConfig();
    model_config_.attn_dropout = model_config_.embed_dropout = 0.1;
  }

  std::string Folder(const std::string& name) const { return JoinPath(root_, name); }

  // Runs a fresh model in a folder; as if the process had been started anew.
  absl::StatusOr<RunResult> Go(const std::string& folder, bool resume = false,
                               int64_t stop_after = -1) {
    const std::unique_ptr<ResidualModel> model = TinyModel(model_config_);
    std::atomic<bool> stop{stop_after == 0};
    RunOptions options;
    options.folder = folder;
    options.resume = resume;
    options.stop = &stop;
    options.files = {{"config.json", "{}\n"}};
    options.on_start = [&](const RunResult& start) { started_at_.push_back(start.first_step); };
    options.on_step = [&](const StepMetrics& metrics) {
      seen_.push_back(metrics.step);
      if (metrics.step == stop_after) stop = true;
    };
    seen_.clear();
    return RunTraining(config_, options, *model, *data_);
  }

  // The state a run ended with, and its metrics but for the speed.
  static std::string Ending(const std::string& folder, int64_t step = kSteps) {
    const std::string checkpoint =
        JoinPath(CheckpointsFolder(folder), "checkpoint-" + std::to_string(step));
    std::string result = ReadFile(JoinPath(checkpoint, "model.safetensors")).value() +
                         ReadFile(JoinPath(checkpoint, "optimizer.safetensors")).value();
    for (const nlohmann::json& line : Metrics(folder)) {
      nlohmann::json kept = line;
      kept.erase("tokens_per_second");
      result += kept.dump() + "\n";
    }
    return result;
  }
  static std::vector<nlohmann::json> Metrics(const std::string& folder) {
    std::vector<nlohmann::json> lines;
    const std::string text = ReadFile(JoinPath(folder, "metrics.jsonl")).value();
    for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
      lines.push_back(nlohmann::json::parse(line.begin(), line.end()));
    }
    return lines;
  }
  static std::set<std::string> Checkpoints(const std::string& folder) {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(CheckpointsFolder(folder))) {
      names.insert(entry.path().filename());
    }
    return names;
  }

  std::string root_;
  RunConfig config_;
  TransformerConfig model_config_;
  std::unique_ptr<DataSource> data_;
  std::vector<int64_t> seen_, started_at_;
};

TEST_F(RunTest, WritesMetricsAndCheckpoints) {
  config_.checkpoint_every = 10;
  const auto result = Go(Folder("a"));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->first_step, 0);
  EXPECT_EQ(result->step, kSteps);
  EXPECT_FALSE(result->stopped);
  EXPECT_EQ(result->tokens, kSteps * 2 * 12);
  EXPECT_EQ(result->checkpoint, Folder("a/checkpoints/checkpoint-24"));
  EXPECT_THAT(result->notes, IsEmpty());
  EXPECT_THAT(Checkpoints(Folder("a")), ElementsAre("checkpoint-20", "checkpoint-24"));
  EXPECT_EQ(ReadFile(Folder("a/checkpoints/checkpoint-24/config.json")).value(), "{}\n");
  EXPECT_TRUE(CheckpointStore::Verify(result->checkpoint).ok());

  const auto lines = Metrics(Folder("a"));
  ASSERT_EQ(lines.size(), kSteps);
  for (int64_t i = 0; i < kSteps; ++i) {
    EXPECT_EQ(lines[i]["step"], i + 1);
    EXPECT_EQ(seen_[i], i + 1);
    EXPECT_EQ(lines[i]["lr"], config_.train.schedule.Rate(i));
    EXPECT_EQ(lines[i]["tokens"], (i + 1) * 24);
    EXPECT_GT(lines[i]["grad_norm"], 0);
    EXPECT_EQ(lines[i].contains("eval_loss"), i + 1 == 10 || i + 1 == 20 || i + 1 == 24);
  }
  EXPECT_EQ(lines.back()["loss"], result->loss);
  EXPECT_EQ(lines.back()["eval_loss"], *result->eval_loss);
}

TEST_F(RunTest, StraightEqualsSplitAnywhereBitForBit) {
  struct Variant {
    OptimizerKind kind;
    Precision precision;
  };
  for (const Variant& variant : {Variant{OptimizerKind::kAdamW, Precision::kFull},
                                 Variant{OptimizerKind::kSgd, Precision::kFull},
                                 Variant{OptimizerKind::kAdamW, Precision::kBF16}}) {
    config_.train.optimizer.kind = variant.kind;
    config_.train.optimizer.momentum = 0.9;
    config_.train.optimizer.weight_decay = 0.1;
    config_.train.accumulation = 2;
    config_.train.precision = variant.precision;
    // Without it attention is the fused one.
    if (variant.precision == Precision::kBF16) model_config_.attn_dropout = 0;
    const std::string name =
        std::string(OptimizerKindName(variant.kind)) + "-" + PrecisionName(variant.precision);
    ASSERT_TRUE(Go(Folder(name)).ok());
    const std::string expected = Ending(Folder(name));
    const Philox random(1, RandomStream(name.c_str()));
    // One split at 10 random places each, some twice in a row.
    for (int i = 0; i < 10; ++i) {
      const std::string folder = Folder(name + std::to_string(i));
      const int64_t first = 1 + random.Below(2 * i, kSteps - 1);
      const auto stopped = Go(folder, false, first);
      ASSERT_TRUE(stopped.ok()) << stopped.status();
      EXPECT_TRUE(stopped->stopped);
      EXPECT_EQ(stopped->step, first);
      if (i % 3 == 0) {
        const int64_t second = first + random.Below(2 * i + 1, kSteps - first);
        ASSERT_TRUE(Go(folder, true, second).ok());
      }
      const auto resumed = Go(folder, true);
      ASSERT_TRUE(resumed.ok()) << resumed.status();
      EXPECT_GE(resumed->first_step, first);
      EXPECT_EQ(resumed->step, kSteps);
      EXPECT_TRUE(Ending(folder) == expected) << name << " stopped after " << first;
    }
  }
}

TEST_F(RunTest, SameBitsForAnyNumberOfThreads) {
  const int before = NumThreads();
  for (const Precision precision : {Precision::kFull, Precision::kBF16}) {
    config_.train.precision = precision;
    const std::string name = PrecisionName(precision);
    for (const int threads : {1, 2, 3}) {
      SetNumThreads(threads);
      const std::string folder = Folder(name + std::to_string(threads));
      ASSERT_TRUE(Go(folder).ok());
      EXPECT_TRUE(Ending(folder) == Ending(Folder(name + "1"))) << folder;
    }
  }
  SetNumThreads(before);
  EXPECT_FALSE(Ending(Folder("bf161")) == Ending(Folder("f321")));
}

TEST_F(RunTest, FinishedRunHasNothingLeftToDo) {
  ASSERT_TRUE(Go(Folder("a")).ok());
  const std::string before = Ending(Folder("a"));
  const auto again = Go(Folder("a"), true);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->first_step, kSteps);
  EXPECT_EQ(again->step, kSteps);
  EXPECT_THAT(seen_, IsEmpty());
  EXPECT_TRUE(Ending(Folder("a")) == before);
}

TEST_F(RunTest, ResumeWithoutCheckpointBegins) {
  const auto result = Go(Folder("a"), true);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->first_step, 0);
  EXPECT_EQ(Metrics(Folder("a")).size(), kSteps);
}

TEST_F(RunTest, StoppedBeforeTheFirstStep) {
  const auto result = Go(Folder("a"), false, 0);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->stopped);
  EXPECT_EQ(result->step, 0);
  ASSERT_TRUE(Go(Folder("a"), true).ok());
  ASSERT_TRUE(Go(Folder("b")).ok());
  EXPECT_TRUE(Ending(Folder("a")) == Ending(Folder("b")));
}

TEST_F(RunTest, EarlierRunIsNotOverwritten) {
  ASSERT_TRUE(Go(Folder("a"), false, 5).ok());
  const std::string before = Ending(Folder("a"), 5);
  const absl::Status status = Go(Folder("a")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr(Folder("a")), HasSubstr("has checkpoints of an earlier run")));
  EXPECT_TRUE(Ending(Folder("a"), 5) == before);
}

TEST_F(RunTest, CorruptedCheckpointIsPassedOverAndNamed) {
  config_.checkpoint_every = 10;
  ASSERT_TRUE(Go(Folder("a")).ok());
  const std::string expected = Ending(Folder("a"));
  const std::string path = Folder("a/checkpoints/checkpoint-24/optimizer.safetensors");
  std::string bytes = ReadFile(path).value();
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
  std::ofstream(path, std::ios::binary) << bytes;

  const auto result = Go(Folder("a"), true);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->first_step, 20);
  ASSERT_EQ(result->notes.size(), 1);
  EXPECT_THAT(result->notes[0], AllOf(HasSubstr(path), HasSubstr("crc32")));
  EXPECT_THAT(seen_, ElementsAre(21, 22, 23, 24));
  EXPECT_THAT(started_at_, ElementsAre(0, 20));
  EXPECT_TRUE(Ending(Folder("a")) == expected);
}

TEST_F(RunTest, NoCheckpointIsWhole) {
  ASSERT_TRUE(Go(Folder("a"), false, 5).ok());
  const std::string path = Folder("a/checkpoints/checkpoint-5/model.safetensors");
  fs::resize_file(path, 100);
  const absl::Status status = Go(Folder("a"), true).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr(path + ": has 100 bytes, expected"));
}

TEST_F(RunTest, OtherModelThanTheCheckpoints) {
  ASSERT_TRUE(Go(Folder("a"), false, 5).ok());
  model_config_.d_mlp = 20;
  const absl::Status status = Go(Folder("a"), true).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("checkpoint-5/model.safetensors: 'blocks.0.mlp."),
                    HasSubstr("24], expected f32[16, 20]")));
  model_config_.d_mlp = 24;
  config_.train.optimizer.kind = OptimizerKind::kSgd;
  EXPECT_THAT(std::string(Go(Folder("a"), true).status().message()),
              AllOf(HasSubstr("optimizer.safetensors: 'exp_avg"), HasSubstr("of this sgd")));
  config_.train.optimizer.kind = OptimizerKind::kAdamW;
  EXPECT_TRUE(Go(Folder("a"), true).ok());
}

TEST_F(RunTest, TwoRunsInOneFolder) {
  const auto store = CheckpointStore::Open(CheckpointsFolder(Folder("a")));
  ASSERT_TRUE(store.ok());
  EXPECT_THAT(std::string(Go(Folder("a"), true).status().message()), HasSubstr("another run"));
}

// The data of a text; the weights become NaN before step 13.
class Poisoned : public DataSource {
 public:
  Poisoned(const DataSource& text, ResidualModel& model) : text_(text), model_(model) {}
  TrainingBatch Batch(uint64_t seed, int64_t step, int64_t batch_size) const override {
    if (step == 13) {
      Parameters(model_)[3].value->mutable_data<float>()[1] = std::nanf("");
    }
    return text_.Batch(seed, step, batch_size);
  }
  TrainingBatch EvalBatch(uint64_t seed, int64_t index, int64_t batch_size) const override {
    return text_.EvalBatch(seed, index, batch_size);
  }
  int64_t d_vocab() const override { return text_.d_vocab(); }
  int64_t context() const override { return text_.context(); }

 private:
  const DataSource& text_;
  ResidualModel& model_;
};

TEST_F(RunTest, NotFiniteStopsAndSavesNothing) {
  const std::unique_ptr<ResidualModel> model = TinyModel(model_config_);
  const Poisoned data(*data_, *model);
  RunOptions options;
  options.folder = Folder("a");
  config_.checkpoint_every = 5;
  const absl::Status status = RunTraining(config_, options, *model, data).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(
      std::string(status.message()),
      AllOf(HasSubstr("step 13: the loss is nan; weight '" + Parameters(*model)[3].name),
            HasSubstr("at index 1 (nan)"),
            HasSubstr("the last good checkpoint is " + Folder("a/checkpoints/checkpoint-10"))));
  EXPECT_THAT(Checkpoints(Folder("a")), ElementsAre("checkpoint-10", "checkpoint-5"));
  EXPECT_EQ(Metrics(Folder("a")).size(), 13);
  // A sound run goes on from there.
  config_.checkpoint_every = 0;
  ASSERT_TRUE(Go(Folder("a"), true).ok());
  ASSERT_TRUE(Go(Folder("b")).ok());
  EXPECT_TRUE(Ending(Folder("a")) == Ending(Folder("b")));
}

TEST_F(RunTest, FolderThatCannotBeMade) {
  const absl::Status status = Go("/proc/self/status/x").status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("/proc/self/status"));
}

TEST_F(RunTest, CheckpointHoldsTheModelUnderItsOwnNames) {
  ASSERT_TRUE(Go(Folder("a"), false, 3).ok());
  const auto file = SafetensorsFile::Open(Folder("a/checkpoints/checkpoint-3/model.safetensors"));
  ASSERT_TRUE(file.ok());
  const auto model = TinyModel(model_config_);
  for (const Parameter& parameter : Parameters(*model)) {
    const TensorInfo* info = file->Find(parameter.name);
    ASSERT_NE(info, nullptr) << parameter.name;
    EXPECT_EQ(info->shape, DiskShape(parameter));
  }
  EXPECT_EQ(file->tensors().size(), Parameters(*model).size());
}

}  // namespace
}  // namespace residual
