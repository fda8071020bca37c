#include "tools/experiments/copying/mamba_copying.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/types/span.h"
#include "interp/report/plots.h"
#include "models/checkpoint/config_reader.h"
#include "models/data/tasks/tasks.h"
#include "models/evaluate/task_accuracy.h"
#include "tensor/base/status_macros.h"
#include "tools/experiments/selection/contenders.h"
#include "tools/experiments/selection/selection.h"
#include "tools/experiments/training/task_training.h"

namespace residual {
namespace {

using nlohmann::json;

constexpr int64_t kVocabulary = 16;  // noise, 14 to copy, the marker
constexpr size_t kConfigLimit = size_t{1} << 20;
constexpr int64_t kLookedAtRows = 32;  // for steps

struct Contender {
  const char* name;
  json model;
  double paper;
  int color;
  std::vector<double> accuracy;  // of each seed
  std::vector<TaskRun> runs;
};

TaskTraining TrainingOf(const CopyingPlan& plan, const json& model, uint64_t seed) {
  TaskTraining training;
  training.model = model;
  training.train.optimizer.kind = OptimizerKind::kAdam;
  training.train.schedule.kind = plan.cosine ? ScheduleKind::kCosine : ScheduleKind::kConstant;
  training.train.schedule.lr = plan.lr;
  training.train.schedule.warmup_steps = plan.warmup_steps;
  training.train.schedule.total_steps = plan.steps;
  training.train.batch_size = plan.batch_size;
  training.train.seed = seed;
  training.steps = plan.steps;
  training.eval_every = plan.eval_every;
  training.eval_rows = std::min<int64_t>(plan.measured_rows, 100);
  training.seconds_limit = plan.seconds_limit;
  return training;
}

absl::Status TrainAndMeasure(const CopyingPlan& plan, const DataSource& data,
                             const ExperimentOptions& options, Contender& contender) {
  for (int64_t i = 0; i < plan.seeds; ++i) {
    const uint64_t seed = options.seed + i;
    options.say(absl::StrFormat("%s, seed %d: training on rows of %d with %d to copy",
                                contender.name, seed, plan.context, plan.n_items));
    RESIDUAL_ASSIGN_OR_RETURN(
        TaskRun run,
        TrainOnTask(TrainingOf(plan, contender.model, seed), data,
                    [&](const TaskRun::Point& point) {
                      options.say(absl::StrFormat("  step %d: loss %.3f, accuracy %.3f", point.step,
                                                  point.loss, point.accuracy));
                    }));
    // Rows of a seed that training did not look at even to know when to end.
    RESIDUAL_ASSIGN_OR_RETURN(const TaskAccuracy got,
                              MeasureTaskAccuracy(*run.model, data, seed + 1000, plan.measured_rows,
                                                  std::min<int64_t>(plan.measured_rows, 32)));
    options.say(absl::StrFormat("  %s, seed %d: %.3f of %d tokens copied", contender.name, seed,
                                got.fraction(), got.answers));
    contender.accuracy.push_back(got.fraction());
    contender.runs.push_back(std::move(run));
  }
  return absl::OkStatus();
}

// What the steps of a trained Mamba are at data, noise and markers: the layer where data and noise
// are furthest apart.
struct Selected {
  std::vector<StepsOfLayer> layers;
  double ratio = 0;  // data over noise
};
absl::StatusOr<Selected> StepsByKind(const ResidualModel& model, const DataSource& data,
                                     uint64_t seed) {
  const Tensor tokens = data.EvalBatch(seed, 0, kLookedAtRows).tokens;
  Selected selected;
  RESIDUAL_ASSIGN_OR_RETURN(selected.layers, MeasureSteps(model, tokens, 3, [](int64_t token) {
                              return token == 0 ? 1 : token == kVocabulary - 1 ? 2 : 0;
                            }));
  for (const StepsOfLayer& layer : selected.layers) {
    selected.ratio = std::max(selected.ratio, layer.of_kind[0] / layer.of_kind[1]);
  }
  return selected;
}

void AddPictures(absl::Span<const Contender> contenders, const Selected& selected, Report& report) {
  std::vector<Series> curves;
  std::vector<Bar> bars;
  Table table;
  table.caption = "Share of the tokens that were copied, on rows not seen before.";
  table.columns = {{"model", false}, {"parameters"}, {"mean"},
                   {"deviation"},    {"paper"},      {"minutes"}};
  for (const Contender& contender : contenders) {
    const Spread spread = SpreadOf(contender.accuracy);
    curves.push_back(AccuracyCurve(contender.runs[0], contender.name, contender.color));
    Bar bar{contender.name, spread.mean, contender.color};
    bar.points = contender.accuracy;
    bars.push_back(std::move(bar));
    table.rows.push_back({{contender.name},
                          {absl::StrCat(contender.runs[0].parameters)},
                          {FormatNumber(spread.mean, 4)},
                          {FormatNumber(spread.deviation, 2)},
                          {FormatNumber(contender.paper, 3)},
                          {FormatNumber(contender.runs[0].seconds / 60, 2)}});
  }
  BarOptions bar_options;
  bar_options.value_title = "share of tokens copied";
  bar_options.format = ".3f";
  bar_options.low = 0;
  bar_options.high = 1;
  bar_options.reference = 1.0 / (kVocabulary - 2);
  bar_options.reference_label = "guessing";
  report.Section("Who can copy");
  report.Plot(BarPlot(bars, bar_options), "The mean over seeds, and each seed.",
              "Bars of accuracy for Mamba and S4.");
  AxesOptions axes;
  axes.x_title = "training step";
  axes.y_title = "share of tokens copied";
  axes.x_format = "d";
  axes.y_low = 0;
  axes.y_high = 1;
  report.Plot(LinePlot(curves, axes), "While training, first seed.",
              "Accuracy over training steps for each model.");
  report.AddTable(table);

  std::vector<Bar> steps;
  const char* kinds[] = {"data", "noise", "marker"};
  for (const StepsOfLayer& layer : selected.layers) {
    for (int kind = 0; kind < 3; ++kind) {
      steps.push_back(
          {absl::StrCat("layer ", layer.layer, ", ", kinds[kind]), layer.of_kind[kind], kind});
    }
  }
  BarOptions step_options;
  step_options.value_title = "mean step Δ";
  step_options.format = ".3f";
  step_options.low = 0;
  report.Section("What it selects");
  report.Plot(
      BarPlot(steps, step_options),
      "The step Δ of Mamba, first seed, averaged over channels: large where a token is taken "
      "in, small where the state goes on as it was.",
      "Bars of the mean step at data, noise and markers in each layer.");
}

}  // namespace

CopyingPlan CpuCopying() { return {}; }

CopyingPlan QuickCopying() {
  CopyingPlan plan;
  plan.context = 128;
  plan.n_items = 8;
  plan.steps = 4000;
  plan.eval_every = 200;
  plan.seconds_limit = 240;
  plan.seeds = 1;
  return plan;
}

absl::StatusOr<CopyingPlan> ChangedPlan(CopyingPlan plan, const json& changes,
                                        const std::string& source) {
  constexpr int64_t kMany = int64_t{1} << 40;
  ConfigReader c(changes, source);
  plan.context = c.IntOr("context", plan.context, 3, kMany);
  plan.n_items = c.IntOr("n_items", plan.n_items, 1, kMany);
  plan.d_model = c.IntOr("d_model", plan.d_model, 4, 1 << 14);
  plan.batch_size = c.IntOr("batch_size", plan.batch_size, 1, 1 << 16);
  plan.lr = c.NumberOr("lr", plan.lr, 0, 1e3);
  plan.warmup_steps = c.IntOr("warmup_steps", plan.warmup_steps, 0, kMany);
  plan.cosine = c.BoolOr("cosine", plan.cosine);
  plan.steps = c.IntOr("steps", plan.steps, 1, kMany);
  plan.eval_every = c.IntOr("eval_every", plan.eval_every, 1, kMany);
  plan.seconds_limit = c.NumberOr("seconds_limit", plan.seconds_limit, 0, 1e12);
  plan.seeds = c.IntOr("seeds", plan.seeds, 1, 1000);
  plan.measured_rows = c.IntOr("measured_rows", plan.measured_rows, 1, 1 << 20);
  plan.mamba_least = c.NumberOr("mamba_least", plan.mamba_least, 0, 1);
  plan.s4_most = c.NumberOr("s4_most", plan.s4_most, 0, 1);
  plan.gap_least = c.NumberOr("gap_least", plan.gap_least, 0, 1);
  c.FailOnUnreadKeys({});
  RESIDUAL_RETURN_IF_ERROR(c.status());
  return plan;
}

absl::StatusOr<Findings> RunCopying(const CopyingPlan& plan, const ExperimentOptions& options) {
  TaskOptions task;
  task.context = plan.context;
  task.d_vocab = kVocabulary;
  task.n_items = plan.n_items;
  RESIDUAL_ASSIGN_OR_RETURN(const std::unique_ptr<DataSource> data,
                            MakeTask("selective_copying", task));
  // The paper's S6 in Mamba's block, and S4 without a gate.
  Contender contenders[] = {
      {"Mamba", SmallMamba(kVocabulary, plan.d_model), 0.998, 0, {}, {}},
      {"S4", SmallS4(kVocabulary, plan.d_model, plan.context), 0.183, 1, {}, {}}};
  for (Contender& contender : contenders) {
    RESIDUAL_RETURN_IF_ERROR(TrainAndMeasure(plan, *data, options, contender));
  }
  const Contender &mamba = contenders[0], &s4 = contenders[1];
  double ratio = 0;
  Selected first;
  for (int64_t i = 0; i < plan.seeds; ++i) {
    RESIDUAL_ASSIGN_OR_RETURN(Selected selected,
                              StepsByKind(*mamba.runs[i].model, *data, options.seed + 1000 + i));
    ratio = i == 0 ? selected.ratio : std::min(ratio, selected.ratio);
    if (i == 0) first = std::move(selected);
  }
  const double ours = SpreadOf(mamba.accuracy).mean, theirs = SpreadOf(s4.accuracy).mean;
  Findings findings{
      {{"Mamba copies what is chosen by content: mean share of tokens", 0.998, ours,
        plan.mamba_least, 1},
       {"S4, the same at every token, does not: mean share of tokens", 0.183, theirs, 0,
        plan.s4_most},
       {"the gap between them", 0.998 - 0.183, ours - theirs, plan.gap_least, 1},
       {"Mamba's step is large at data and small at noise: their ratio in the layer where it is "
        "largest, least of the seeds",
        std::nullopt, ratio, 1.5, 1e9}},
      Report("Selective copying",
             Html("Data tokens stand at random places among noise; afterwards they are to be said "
                  "in order. A model that treats every token alike fills its state with noise: how "
                  "far apart two data tokens are differs from row to row, and no fixed kernel "
                  "lines them up. Mamba's step Δ depends on the token."))};
  AddPictures(contenders, first, findings.report);
  return findings;
}

absl::StatusOr<Findings> MambaCopying(const ExperimentOptions& options) {
  CopyingPlan plan = options.quick ? QuickCopying() : CpuCopying();
  if (!options.config.empty()) {
    RESIDUAL_ASSIGN_OR_RETURN(const json changes, ReadJsonObject(options.config, kConfigLimit));
    RESIDUAL_ASSIGN_OR_RETURN(plan, ChangedPlan(plan, changes, options.config));
  }
  return RunCopying(plan, options);
}

}  // namespace residual
