// Training runs of classifiers, with files: stopped and resumed they end with the same bits.

#include <atomic>
#include <filesystem>
#include <limits>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/classify/train_classifier.h"
#include "models/data/labeled/drawn_digits.h"
#include "models/train/run.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

using ::testing::HasSubstr;

class ClassifierRunTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = JoinPath(::testing::TempDir(),
                     ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(root_);
    train_ = DrawnDigits(45, 6, 1);
    validation_ = DrawnDigits(20, 6, 2);
    config_.steps = 13;
    config_.eval_every = 3;
    config_.checkpoint_every = 4;
  }

  struct Ended {
    RunResult result;
    ClassifierTrainer::Best best;
  };
  absl::StatusOr<Ended> Go(const std::string& folder, bool resume, int64_t stop_after = -1) {
    ClassifierConfig c;
    c.channels = 1;
    c.n_classes = 10;
    c.body.d_model = 8;
    c.body.d_state = 4;
    c.body.n_ctx = 36;
    c.body.blocks = {{"s4d"}};
    c.body.positions = Positions::kNone;
    c.body.resid_dropout = 0.1;
    auto model = SequenceClassifier::Make(c);
    RESIDUAL_CHECK(model.ok()) << model.status().message();
    Initialize(**model, 3);
    ClassifierTraining training;
    training.schedule.lr = 0.02;
    training.schedule.total_steps = config_.steps;
    training.batch_size = 10;  // an epoch is 4 steps and 5 rows left
    training.seed = 5;
    ClassifierTrainer trainer(training, **model, train_, validation_);
    std::atomic<bool> stop{false};
    RunOptions options;
    options.folder = JoinPath(root_, folder);
    options.resume = resume;
    options.stop = &stop;
    options.on_step = [&](const StepMetrics& m) { stop = stop || m.step == stop_after; };
    auto result = RunTraining(config_, options, trainer);
    if (!result.ok()) return result.status();
    return Ended{*std::move(result), trainer.best()};
  }
  std::string Files(const std::string& folder) const {
    std::string all;
    for (const char* name : {"model", "optimizer", "best"}) {
      all +=
          ReadFile(JoinPath(root_, folder + "/checkpoints/checkpoint-13/" + name + ".safetensors"))
              .value();
    }
    return all;
  }

  std::string root_;
  RunConfig config_;
  LabeledSequences train_, validation_;
};

TEST_F(ClassifierRunTest, ResumedRunsEndWithTheSameBits) {
  const auto whole = Go("whole", false);
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_EQ(whole->result.step, 13);
  EXPECT_EQ(whole->result.tokens, 13 * 10 * 36);
  EXPECT_TRUE(whole->result.eval_accuracy.has_value());
  EXPECT_GE(whole->best.accuracy, *whole->result.eval_accuracy);
  ASSERT_GE(whole->best.step, 1);
  EXPECT_TRUE(whole->best.step % 3 == 0 || whole->best.step == 13) << whole->best.step;
  // Before anything was evaluated, within an epoch, at its end.
  for (const int64_t at : {2, 6, 8}) {
    const std::string folder = "cut" + std::to_string(at);
    const auto first = Go(folder, false, at);
    ASSERT_TRUE(first.ok()) << first.status();
    EXPECT_TRUE(first->result.stopped);
    const auto rest = Go(folder, true);
    ASSERT_TRUE(rest.ok()) << rest.status();
    EXPECT_EQ(rest->result.first_step, at);
    EXPECT_EQ(rest->best.step, whole->best.step);
    EXPECT_EQ(rest->best.accuracy, whole->best.accuracy);
    EXPECT_TRUE(Files(folder) == Files("whole")) << at;
  }
  EXPECT_THAT(ReadFile(JoinPath(root_, "whole/metrics.jsonl")).value(), HasSubstr("eval_accuracy"));
}

TEST_F(ClassifierRunTest, ABrokenBestIsSaid) {
  ASSERT_TRUE(Go("a", false, 6).ok());
  const std::string checkpoint = JoinPath(root_, "a/checkpoints/checkpoint-6");
  // By the manifest the one before is taken; that is not of this test.
  const std::string path = JoinPath(checkpoint, "best.safetensors");
  std::string bytes = ReadFile(path).value();
  bytes[bytes.size() - 1] = static_cast<char>(bytes.back() + 1);
  ASSERT_TRUE(WriteFileAtomically(path, bytes).ok());
  const auto resumed = Go("a", true);
  ASSERT_TRUE(resumed.ok()) << resumed.status();
  EXPECT_EQ(resumed->result.first_step, 4);
  ASSERT_EQ(resumed->result.notes.size(), 1);
  EXPECT_THAT(resumed->result.notes[0], HasSubstr("best.safetensors"));
}

TEST_F(ClassifierRunTest, DivergenceStopsTheRunAndNamesTheLastGoodCheckpoint) {
  train_.x.mutable_data<float>()[40 * 36] = std::numeric_limits<float>::quiet_NaN();
  const absl::Status status = Go("a", false).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr(": the loss is nan"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("checkpoint"));
}

}  // namespace
}  // namespace residual
