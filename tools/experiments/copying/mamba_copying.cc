#include "tools/experiments/copying/mamba_copying.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/types/span.h"
#include "interp/report/plots.h"
#include "models/data/tasks/tasks.h"
#include "models/evaluate/task_accuracy.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"
#include "tools/experiments/claims/plan.h"
#include "tools/experiments/selection/contenders.h"
#include "tools/experiments/selection/selection.h"
#include "tools/experiments/training/task_training.h"

namespace residual {
namespace {

using nlohmann::json;

constexpr int64_t kVocabulary = 16;    // noise, 14 to copy, the marker
constexpr int64_t kLookedAtRows = 16;  // for steps and hidden attention

struct Contender {
  const char* name;
  const char* folder;  // of its models, with the seed behind
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
  training.lesson_steps = plan.lesson_steps;
  return training;
}

absl::StatusOr<std::unique_ptr<DataSource>> Rows(const CopyingPlan& plan, int64_t context) {
  TaskOptions task;
  task.context = context;
  task.d_vocab = kVocabulary;
  task.n_items = plan.n_items;
  return MakeTask("selective_copying", task);
}

absl::Status TrainAndMeasure(const CopyingPlan& plan, const DataSource& data,
                             const ExperimentOptions& options, Contender& contender) {
  std::vector<std::unique_ptr<DataSource>> lessons;
  for (int64_t context = plan.first_context; context < plan.context; context *= 2) {
    RESIDUAL_ASSIGN_OR_RETURN(lessons.emplace_back(), Rows(plan, context));
  }
  for (int64_t i = 0; i < plan.seeds; ++i) {
    const uint64_t seed = options.seed + i;
    options.say(absl::StrFormat("%s, seed %d: training on rows of %d with %d to copy",
                                contender.name, seed, plan.context, plan.n_items));
    TaskTraining training = TrainingOf(plan, contender.model, seed);
    for (const auto& lesson : lessons) training.lessons.push_back(lesson.get());
    if (!options.out.empty()) {
      training.folder = JoinPath(options.out, absl::StrCat(contender.folder, "_", seed));
    }
    RESIDUAL_ASSIGN_OR_RETURN(
        TaskRun run, TrainOnTask(training, data, [&](const TaskRun::Point& point) {
          options.say(absl::StrFormat("  step %d: rows of %d, loss %.3f, accuracy %.3f", point.step,
                                      point.context, point.loss, point.accuracy));
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

// Kinds of position: so many tokens after the last data token, while a convolution over four sees
// it; noise that no convolution of two layers has seen data from; a marker.
constexpr int kSeen = 4, kNoise = kSeen, kMarker = kSeen + 1, kKinds = kSeen + 2;

Tensor KindsOf(const Tensor& tokens) {
  const int64_t pos = tokens.dim(1);
  Tensor kinds = Tensor::Uninitialized(tokens.shape(), kI64);
  int64_t since = 0;  // the last data token
  for (int64_t i = 0; i < tokens.elements(); ++i) {
    const int64_t token = tokens.data<int64_t>()[i];
    if (i % pos == 0) since = 2 * kSeen;
    since = token != 0 && token != kVocabulary - 1 ? 0 : since + 1;
    int64_t& kind = kinds.mutable_data<int64_t>()[i];
    kind = since < kSeen ? since : since > 2 * (kSeen - 1) ? kNoise : -1;
    if (token == kVocabulary - 1) kind = kMarker;
  }
  return kinds;
}

// How many times as far a channel steps where its convolution sees a data token, at the place where
// it steps furthest, as it does at noise; of all channels, falling.
std::vector<double> StepRatios(const StepsOfLayer& steps) {
  std::vector<double> ratios;
  for (size_t c = 0; c < steps.of_channel[kNoise].size(); ++c) {
    double most = 0;
    for (int kind = 0; kind < kSeen; ++kind) most = std::max(most, steps.of_channel[kind][c]);
    ratios.push_back(most / steps.of_channel[kNoise][c]);
  }
  std::sort(ratios.rbegin(), ratios.rend());
  return ratios;
}

// The mean weight on a place from which a convolution sees data over that on a place of noise.
double ReadingRatio(const ReadingOfLayer& reading) {
  double data = 0;
  for (int kind = 0; kind < kSeen; ++kind) data += reading.of_kind[kind] / kSeen;
  return data / reading.of_kind[kNoise];
}

// What a trained Mamba takes in, and what it reads when it is to say it.
struct Selected {
  std::vector<int> layers;
  std::vector<std::vector<double>> step_ratios;  // of each layer
  std::vector<double> reading_ratios;
  // In the layer where it is most: what a quarter of the channels reach, and the mean.
  double step_ratio = 0, reading_ratio = 0;
};
absl::StatusOr<Selected> LookAt(const ResidualModel& model, const DataSource& data, uint64_t seed) {
  const Tensor tokens = data.EvalBatch(seed, 0, kLookedAtRows).tokens, kinds = KindsOf(tokens);
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<StepsOfLayer> steps,
                            MeasureSteps(model, tokens, kinds, kKinds));
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<ReadingOfLayer> reading,
                            MeasureReading(model, tokens, kinds, kKinds, kMarker));
  Selected selected;
  for (const StepsOfLayer& layer : steps) {
    selected.layers.push_back(layer.layer);
    selected.step_ratios.push_back(StepRatios(layer));
    const std::vector<double>& ratios = selected.step_ratios.back();
    selected.step_ratio = std::max(selected.step_ratio, ratios[ratios.size() / 4]);
  }
  for (const ReadingOfLayer& layer : reading) {
    selected.reading_ratios.push_back(ReadingRatio(layer));
    selected.reading_ratio = std::max(selected.reading_ratio, selected.reading_ratios.back());
  }
  return selected;
}

void AddPictures(const CopyingPlan& plan, absl::Span<const Contender> contenders,
                 const Selected& selected, Report& report) {
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
  std::string caption = "While training, first seed.";
  if (plan.first_context < plan.context) {
    absl::StrAppend(&caption, " On the rows of the moment, of ", plan.first_context,
                    " tokens at first, of ", plan.context, " at last.");
  }
  report.Plot(LinePlot(curves, axes), caption, "Accuracy over training steps for each model.");
  report.AddTable(table);

  std::vector<Series> ratios;
  for (size_t i = 0; i < selected.layers.size(); ++i) {
    Series series{absl::StrCat("layer ", selected.layers[i]), {}, {}, static_cast<int>(i)};
    const std::vector<double>& of_layer = selected.step_ratios[i];
    for (size_t c = 0; c < of_layer.size(); ++c) {
      series.x.push_back(static_cast<double>(c + 1) / static_cast<double>(of_layer.size()));
      series.y.push_back(of_layer[c]);
    }
    ratios.push_back(std::move(series));
  }
  AxesOptions of_ratios;
  of_ratios.x_title = "share of the channels that reach it";
  of_ratios.y_title = "step Δ where data is seen / at noise";
  of_ratios.x_format = ".0%";
  of_ratios.log_y = true;
  report.Section("What it selects");
  report.Plot(LinePlot(ratios, of_ratios),
              "The step Δ of Mamba's channels, first seed: how many times as large it is where the "
              "convolution sees a data token, at the place where it is largest, as at noise far "
              "from any. Large: the state takes in what is there. Small: it goes on as it was.",
              "For each layer a falling curve over channels, from hundreds to below one.");
  Table read;
  read.caption =
      "Hidden attention from the markers, first seed: mean weight on a place whose convolution "
      "sees "
      "data over that on a place of noise.";
  read.columns = {{"layer"}, {"data / noise"}};
  for (size_t i = 0; i < selected.reading_ratios.size(); ++i) {
    read.rows.push_back({{absl::StrCat(i)}, {FormatNumber(selected.reading_ratios[i], 3)}});
  }
  report.AddTable(read);
}

}  // namespace

absl::StatusOr<Findings> RunCopying(const CopyingPlan& plan, const ExperimentOptions& options) {
  RESIDUAL_ASSIGN_OR_RETURN(const std::unique_ptr<DataSource> data, Rows(plan, plan.context));
  // The paper's S6 in Mamba's block, and S4 without a gate.
  Contender contenders[] = {
      {"Mamba", "mamba", SmallMamba(kVocabulary, plan.d_model), 0.998, 0, {}, {}},
      {"S4", "s4", SmallS4(kVocabulary, plan.d_model, plan.context), 0.183, 1, {}, {}}};
  for (Contender& contender : contenders) {
    RESIDUAL_RETURN_IF_ERROR(TrainAndMeasure(plan, *data, options, contender));
  }
  const Contender &mamba = contenders[0], &s4 = contenders[1];
  double step_ratio = 0, reading_ratio = 0;
  Selected first;
  for (int64_t i = 0; i < plan.seeds; ++i) {
    RESIDUAL_ASSIGN_OR_RETURN(Selected selected,
                              LookAt(*mamba.runs[i].model, *data, options.seed + 1000 + i));
    step_ratio = i == 0 ? selected.step_ratio : std::min(step_ratio, selected.step_ratio);
    reading_ratio =
        i == 0 ? selected.reading_ratio : std::min(reading_ratio, selected.reading_ratio);
    if (i == 0) first = std::move(selected);
  }
  const double ours = SpreadOf(mamba.accuracy).mean, theirs = SpreadOf(s4.accuracy).mean;
  Findings findings{
      {{"Mamba copies what is chosen by content: mean share of tokens", 0.998, ours,
        plan.mamba_least, 1},
       {"S4, the same at every token, does not: mean share of tokens", 0.183, theirs, 0,
        plan.s4_most},
       {"the gap between them", 0.998 - 0.183, ours - theirs, plan.gap_least, 1},
       {"Mamba's step is large at data and small at noise: how many times as large a quarter of "
        "the channels take it, in the layer where that is most, least of the seeds",
        std::nullopt, step_ratio, 4, 1e9},
       {"what Mamba says is read from the data: mean weight of its hidden attention on a place "
        "that "
        "sees data over that on a place of noise, in the layer where that is most, least of the "
        "seeds",
        std::nullopt, reading_ratio, 2, 1e9}},
      Report("Selective copying",
             Html("Data tokens stand at random places among noise; afterwards they are to be said "
                  "in order. A model that treats every token alike fills its state with noise: how "
                  "far apart two data tokens are differs from row to row, and no fixed kernel "
                  "lines them up. Mamba's step Δ depends on the token."))};
  AddPictures(plan, contenders, first, findings.report);
  return findings;
}

absl::StatusOr<Findings> MambaCopying(const ExperimentOptions& options) {
  RESIDUAL_ASSIGN_OR_RETURN(
      const CopyingPlan plan,
      PlanWith(options.quick ? QuickCopying() : CpuCopying(), options.config));
  return RunCopying(plan, options);
}

}  // namespace residual
