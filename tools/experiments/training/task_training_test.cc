#include "tools/experiments/training/task_training.h"

#include <fstream>

#include "gtest/gtest.h"
#include "models/data/tasks/tasks.h"
#include "models/transformer/transformer.h"
#include "models/zoo/zoo.h"
#include "tensor/base/check.h"
#include "tensor/io/file.h"
#include "tools/experiments/selection/contenders.h"

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

TEST(TaskTrainingTest, GoesOnToTheTaskOnceALessonIsLearned) {
  TaskOptions options;
  options.context = 3;
  options.d_vocab = 4;
  options.n_items = 1;
  const auto lesson = MakeTask("selective_copying", options).value(), task = OneToCopy();
  ASSERT_LT(lesson->context(), task->context());
  TaskTraining training = SmallTraining();
  training.lessons = {lesson.get()};
  const auto run = TrainOnTask(training, *task, nullptr);
  ASSERT_TRUE(run.ok()) << run.status();
  size_t i = 0;
  for (; run->points[i].accuracy < 0.99; ++i) {
    ASSERT_EQ(run->points[i].context, lesson->context()) << i;
  }
  EXPECT_EQ(run->points[i].context, lesson->context());
  ASSERT_LT(i + 1, run->points.size());
  for (++i; i < run->points.size(); ++i) EXPECT_EQ(run->points[i].context, task->context()) << i;
  EXPECT_GE(run->accuracy(), 0.95);

  // One that is not learned is not left.
  training.steps = 20;
  training.train.schedule.lr = 1e-9;
  const auto stuck = TrainOnTask(training, *task, nullptr);
  ASSERT_TRUE(stuck.ok()) << stuck.status();
  for (const TaskRun::Point& point : stuck->points) {
    EXPECT_EQ(point.context, lesson->context());
  }

  // Unless it has had its steps.
  training.lessons = {lesson.get(), lesson.get()};
  training.lesson_steps = 10;
  training.steps = 40;
  const auto hurried = TrainOnTask(training, *task, nullptr);
  ASSERT_TRUE(hurried.ok()) << hurried.status();
  ASSERT_EQ(hurried->points.size(), 4);
  EXPECT_EQ(hurried->points[1].context, lesson->context());
  EXPECT_EQ(hurried->points[2].context, task->context());
  EXPECT_EQ(hurried->points[3].context, task->context());
}

// Up to the step that learns the task nothing passes; what is passed then changes what is learned,
// the same way every time.
TEST(TaskTrainingTest, PassesStatesOnceTheTaskIsLearned) {
  TaskTraining training = SmallTraining();
  training.model = SmallMamba(4, 16);
  training.train.label_smoothing = 0.1;  // or there is nothing left to learn
  training.enough = 2;
  const auto losses = [&](int64_t pass_state) {
    training.pass_state = pass_state;
    const auto run = TrainOnTask(training, *OneToCopy(), nullptr);
    RESIDUAL_CHECK(run.ok()) << run.status();
    return run->points;
  };
  const auto plain = losses(0), passing = losses(4), again = losses(4);
  size_t learned = 0;
  while (learned < plain.size() && plain[learned].accuracy < 0.99) ++learned;
  ASSERT_LT(learned + 1, plain.size());
  for (size_t i = 0; i <= learned; ++i) EXPECT_EQ(plain[i].loss, passing[i].loss) << i;
  EXPECT_NE(plain[learned + 1].loss, passing[learned + 1].loss);
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_EQ(passing[i].loss, again[i].loss) << i;
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
