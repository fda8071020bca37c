#include "tools/experiments/training/task_training.h"

#include <fstream>

#include "gtest/gtest.h"
#include "models/data/tasks/tasks.h"
#include "models/transformer/transformer.h"
#include "models/zoo/zoo.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

// A model of one layer, which learns to copy one of two kinds of token in no time.
TaskTraining SmallTraining() {
  TransformerConfig c;
  c.d_model = 16;
  c.n_ctx = 16;
  c.d_vocab = 4;
  c.blocks = {{"attn"}};
  c.n_heads = 2;
  c.d_head = 8;
  TaskTraining training;
  training.model = ConfigToJson(c);
  training.train.schedule.lr = 1e-2;
  training.train.seed = 1;
  training.steps = 400;
  training.eval_every = 10;
  training.eval_rows = 40;
  training.enough = 0.95;
  return training;
}

std::unique_ptr<DataSource> OneToCopy() {
  TaskOptions options;
  options.context = 6;
  options.d_vocab = 4;
  options.n_items = 1;
  return MakeTask("selective_copying", options).value();
}

TEST(TaskTrainingTest, WritesWhatItTrained) {
  TaskTraining training = SmallTraining();
  training.steps = 2;
  training.folder = JoinPath(::testing::TempDir(), "trained");
  const auto run = TrainOnTask(training, *OneToCopy(), nullptr);
  ASSERT_TRUE(run.ok()) << run.status();
  const auto loaded = LoadModel(training.folder);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const Tensor tokens = Tensor::Of<int64_t>({1, 3}, {0, 2, 1});
  const Tensor ours = run->model->Forward({tokens}), theirs = loaded->model->Forward({tokens});
  for (int64_t i = 0; i < ours.elements(); ++i) {
    EXPECT_EQ(ours.data<float>()[i], theirs.data<float>()[i]) << i;
  }

  std::ofstream(training.folder + "_file") << "not a folder";
  training.folder += "_file";
  EXPECT_FALSE(TrainOnTask(training, *OneToCopy(), nullptr).ok());
}

TEST(TaskTrainingTest, EndsWhenTheTaskIsLearnedAndNotBefore) {
  int calls = 0;
  const auto run =
      TrainOnTask(SmallTraining(), *OneToCopy(), [&](const TaskRun::Point&) { ++calls; });
  ASSERT_TRUE(run.ok()) << run.status();
  ASSERT_GE(run->points.size(), 2);
  EXPECT_EQ(run->points.size(), calls);
  EXPECT_LT(run->points.back().step, 400);
  const size_t n = run->points.size();
  EXPECT_GE(run->points[n - 1].accuracy, 0.95);
  EXPECT_GE(run->points[n - 2].accuracy, 0.95);
  if (n > 2) {
    EXPECT_LT(run->points[n - 3].accuracy, 0.95);
  }
  EXPECT_LT(run->points.back().loss, run->points.front().loss);
  const Series curve = AccuracyCurve(*run, "one", 2);
  EXPECT_EQ(curve.x.back(), run->points.back().step);
  EXPECT_EQ(curve.y.back(), run->accuracy());
}

TEST(TaskTrainingTest, StopsAtItsLimits) {
  TaskTraining training = SmallTraining();
  training.enough = 2;
  training.steps = 25;
  auto run = TrainOnTask(training, *OneToCopy(), nullptr);
  ASSERT_TRUE(run.ok()) << run.status();
  ASSERT_EQ(run->points.size(), 3);  // 10, 20, 25
  EXPECT_EQ(run->points.back().step, 25);
  training.seconds_limit = 1e-9;
  run = TrainOnTask(training, *OneToCopy(), nullptr);
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->points.back().step, 1);
}

TEST(TaskTrainingTest, SpreadIsTheSampleStandardDeviation) {
  EXPECT_EQ(SpreadOf({}).mean, 0);
  EXPECT_EQ(SpreadOf({3}).mean, 3);
  EXPECT_EQ(SpreadOf({3}).deviation, 0);
  EXPECT_DOUBLE_EQ(SpreadOf({1, 2, 6}).mean, 3);
  EXPECT_DOUBLE_EQ(SpreadOf({1, 2, 6}).deviation, std::sqrt(7));
}

}  // namespace
}  // namespace residual
