// Trains a small model on a generated task until it can do it.

#ifndef RESIDUAL_TOOLS_EXPERIMENTS_TASK_TRAINING_H_
#define RESIDUAL_TOOLS_EXPERIMENTS_TASK_TRAINING_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "interp/report/plots.h"
#include "models/stream/residual_model.h"
#include "models/train/data.h"
#include "models/train/trainer.h"
#include "nlohmann/json.hpp"

namespace residual {

struct TaskTraining {
  nlohmann::json model;  // a config.json
  TrainConfig train;
  int64_t steps = 1000;      // at most
  int64_t eval_every = 100;  // steps between measurements
  int64_t eval_rows = 200;   // of each
  double enough = 0.999;     // training ends when two measurements in a row reach this accuracy
  double seconds_limit = 0;  // or after so many seconds; 0: none
  // Shorter rows of the task, to begin with: each until a measurement on it reaches 0.99, then the
  // next, at last the task's own. As many rows a step as make the same number of tokens. What is
  // answered once in a row is found by chance, and sooner in a short one.
  std::vector<const DataSource*> lessons;
  int64_t lesson_steps = 0;  // a lesson takes at most, learned or not; 0: any number
  // > 0: state passing, once a measurement of the task reaches 0.99. Every row then starts from the
  // state in which the rows of the steps before left the model, in runs of so many steps with
  // nothing before the first: only so does a model see, in rows of the training's length, the
  // states that longer ones lead to (Buitrago Ruiz and Gu 2025, "Understanding and Improving Length
  // Generalization in Recurrent Models", section 4.1). No gradient goes from a step to an earlier
  // one.
  int64_t pass_state = 0;
  std::string folder;  // where the trained model is written; "": nowhere
};

struct TaskRun {
  struct Point {
    int64_t step = 0;
    double loss = 0;      // mean of the steps since the point before, nats per answer
    double accuracy = 0;  // on held-out rows
    int64_t context = 0;  // of the rows, those of a lesson or of the task
  };
  std::unique_ptr<ResidualModel> model;
  std::vector<Point> points;
  double seconds = 0;
  int64_t parameters = 0;
  double accuracy() const { return points.empty() ? 0 : points.back().accuracy; }
};

// The model starts from train.seed. `on_point` is called after every measurement. Errors: of a
// config that describes no model, of a step, of a folder that cannot be written.
absl::StatusOr<TaskRun> TrainOnTask(const TaskTraining& training, const DataSource& data,
                                    const std::function<void(const TaskRun::Point&)>& on_point);

// Its accuracy over training, for a plot.
Series AccuracyCurve(const TaskRun& run, const std::string& name, int color);

// Mean and sample standard deviation; the latter 0 for one value.
struct Spread {
  double mean = 0, deviation = 0;
};
Spread SpreadOf(const std::vector<double>& values);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_EXPERIMENTS_TASK_TRAINING_H_
