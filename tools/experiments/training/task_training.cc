#include "tools/experiments/training/task_training.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "models/evaluate/task_accuracy.h"
#include "models/zoo/zoo.h"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The lesson of the moment, in as many rows as make the tokens of a batch of the task.
class Lessons : public DataSource {
 public:
  Lessons(const std::vector<const DataSource*>& lessons, const DataSource& task)
      : lessons_(lessons) {
    lessons_.push_back(&task);
  }

  bool AtTheTask() const { return now_ + 1 == lessons_.size(); }
  void Next() { ++now_; }
  const DataSource& now() const { return *lessons_[now_]; }

  TrainingBatch Batch(uint64_t seed, int64_t step, int64_t batch_size) const override {
    return now().Batch(seed, step, Rows(batch_size));
  }
  TrainingBatch EvalBatch(uint64_t seed, int64_t index, int64_t batch_size) const override {
    return now().EvalBatch(seed, index, Rows(batch_size));
  }
  int64_t d_vocab() const override { return now().d_vocab(); }
  int64_t context() const override { return now().context(); }

 private:
  int64_t Rows(int64_t batch_size) const {
    return std::max<int64_t>(1, batch_size * lessons_.back()->context() / now().context());
  }

  std::vector<const DataSource*> lessons_;
  size_t now_ = 0;
};

}  // namespace

absl::StatusOr<TaskRun> TrainOnTask(const TaskTraining& training, const DataSource& data,
                                    const std::function<void(const TaskRun::Point&)>& on_point) {
  TaskRun run;
  RESIDUAL_ASSIGN_OR_RETURN(run.model, ModelFromConfig(training.model, "the experiment's model"));
  Initialize(*run.model, training.train.seed);
  run.parameters = CountParameters(*run.model);
  Lessons lessons(training.lessons, data);
  Trainer trainer(training.train, *run.model, lessons);
  const double start = Seconds();
  double loss = 0;
  int64_t losses = 0;
  const int64_t batch = training.train.batch_size;
  RESIDUAL_CHECK(training.pass_state == 0 || training.train.accumulation == 1)
      << "the rows of a state are those of one batch";
  bool learned = false;
  int64_t lesson_began = 0;
  ModelState passed;
  for (int reached = 0; trainer.step() < training.steps && reached < 2;) {
    const bool passes = training.pass_state > 0 && learned;
    if (passes && (passed.blocks().empty() || trainer.step() % training.pass_state == 0)) {
      passed = run.model->NewState(batch);
    }
    RESIDUAL_ASSIGN_OR_RETURN(const StepResult step, trainer.StepFrom(passes ? &passed : nullptr));
    if (passes) {
      run.model->NextLogits({data.Batch(training.train.seed, step.step, batch).tokens}, &passed);
    }
    loss += step.loss;
    ++losses;
    const bool late = training.seconds_limit > 0 && Seconds() - start > training.seconds_limit;
    if (trainer.step() % training.eval_every != 0 && trainer.step() != training.steps && !late) {
      continue;
    }
    RESIDUAL_ASSIGN_OR_RETURN(
        const TaskAccuracy accuracy,
        MeasureTaskAccuracy(*run.model, lessons.now(), training.train.seed, training.eval_rows,
                            std::min<int64_t>(training.eval_rows, 50)));
    run.points.push_back({trainer.step(), loss / losses, accuracy.fraction(), lessons.context()});
    if (on_point) on_point(run.points.back());
    loss = losses = 0;
    if (lessons.AtTheTask()) {
      learned = learned || accuracy.fraction() >= 0.99;
      reached = accuracy.fraction() >= training.enough ? reached + 1 : 0;
    } else if (accuracy.fraction() >= 0.99 ||
               (training.lesson_steps > 0 &&
                trainer.step() - lesson_began >= training.lesson_steps)) {
      lessons.Next();
      lesson_began = trainer.step();
    }
    if (late) break;
  }
  run.seconds = Seconds() - start;
  if (!training.folder.empty()) {
    RESIDUAL_RETURN_IF_ERROR(SaveModel(*run.model, training.model, training.folder));
  }
  return run;
}

Series AccuracyCurve(const TaskRun& run, const std::string& name, int color) {
  Series series{name, {}, {}, color};
  for (const TaskRun::Point& point : run.points) {
    series.x.push_back(static_cast<double>(point.step));
    series.y.push_back(point.accuracy);
  }
  return series;
}

Spread SpreadOf(const std::vector<double>& values) {
  Spread spread;
  if (values.empty()) return spread;
  for (double value : values) spread.mean += value / values.size();
  if (values.size() < 2) return spread;
  for (double value : values) {
    spread.deviation += (value - spread.mean) * (value - spread.mean) / (values.size() - 1);
  }
  spread.deviation = std::sqrt(spread.deviation);
  return spread;
}

}  // namespace residual
