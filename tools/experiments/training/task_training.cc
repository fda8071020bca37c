#include "tools/experiments/training/task_training.h"

#include <chrono>
#include <cmath>

#include "models/evaluate/task_accuracy.h"
#include "models/zoo/zoo.h"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

absl::StatusOr<TaskRun> TrainOnTask(const TaskTraining& training, const DataSource& data,
                                    const std::function<void(const TaskRun::Point&)>& on_point) {
  TaskRun run;
  RESIDUAL_ASSIGN_OR_RETURN(run.model, ModelFromConfig(training.model, "the experiment's model"));
  Initialize(*run.model, training.train.seed);
  run.parameters = CountParameters(*run.model);
  Trainer trainer(training.train, *run.model, data);
  const double start = Seconds();
  double loss = 0;
  int64_t losses = 0;
  const int64_t batch = training.train.batch_size;
  RESIDUAL_CHECK(training.pass_state == 0 || training.train.accumulation == 1)
      << "the rows of a state are those of one batch";
  bool learned = false;
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
        MeasureTaskAccuracy(*run.model, data, training.train.seed, training.eval_rows,
                            std::min<int64_t>(training.eval_rows, 50)));
    learned = learned || accuracy.fraction() >= 0.99;
    run.points.push_back({trainer.step(), loss / losses, accuracy.fraction()});
    if (on_point) on_point(run.points.back());
    loss = losses = 0;
    reached = accuracy.fraction() >= training.enough ? reached + 1 : 0;
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
