#include "tools/experiments/mamba/mamba_induction.h"

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "interp/report/plots.h"
#include "models/data/tasks/tasks.h"
#include "models/evaluate/task_accuracy.h"
#include "models/zoo/zoo.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"
#include "tools/experiments/claims/plan.h"
#include "tools/experiments/selection/contenders.h"
#include "tools/experiments/selection/selection.h"
#include "tools/experiments/training/task_training.h"

namespace residual {
namespace {

using nlohmann::json;

constexpr int64_t kVocabulary = 16, kWidth = 64;
// A convolution over four tokens sees the special one and what followed it from there on.
constexpr int64_t kAnswerPlaces = 3;
constexpr int64_t kLookedAtRows = 16;  // for what is read where
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// One kind of model, and what the paper says of it (its table of accuracies in percent, read off
// for rows of 2^6, 2^7, ...; attention ran out of memory beyond the last).
struct Contender {
  std::string name;
  std::string folder;  // of its models, with the seed behind
  json model;
  int64_t longest;  // measured on rows of up to 2^longest
  std::map<int64_t, double> paper;
  int color;
  double lr;
  bool passes_state = false;  // where the plan says so
};

std::vector<Contender> Contenders(const InductionPlan& plan) {
  std::map<int64_t, double> all;
  for (int log = 6; log <= 20; ++log) all[log] = 1;
  const int64_t attention = plan.attention_log;
  const int64_t context = int64_t{1} << attention;
  const auto attention_with = [&](Positions positions) {
    return SmallAttention(kVocabulary, kWidth, positions, context);
  };
  return {
      {"Mamba", "mamba", SmallMamba(kVocabulary, kWidth), plan.longest_log, all, 0, plan.lr, true},
      {"attention, learned positions",
       "learned",
       attention_with(Positions::kLearned),
       attention,
       {{6, 1},
        {7, 0.996},
        {8, 1},
        {9, 0.586},
        {10, 0.266},
        {11, 0.188},
        {12, 0.098},
        {13, 0.109},
        {14, 0.078}},
       1,
       plan.attention_lr},
      {"attention, rotary positions",
       "rotary",
       attention_with(Positions::kRotary),
       attention,
       {{6, 1},
        {7, 1},
        {8, 1},
        {9, 0.836},
        {10, 0.313},
        {11, 0.184},
        {12, 0.086},
        {13, 0.09},
        {14, 0.055}},
       2,
       plan.attention_lr},
      {"S4", "s4", SmallS4(kVocabulary, kWidth, context), attention, {}, 3, plan.lr}};
}

struct Measured {
  std::map<int64_t, std::vector<double>> accuracy;  // by log2 of the length, one for each seed
  std::vector<TaskRun> runs;
  std::map<int64_t, size_t> state_bytes;
};

absl::StatusOr<std::unique_ptr<DataSource>> Rows(int64_t log) {
  TaskOptions task;
  task.context = int64_t{1} << log;
  task.d_vocab = kVocabulary;
  return MakeTask("induction_heads", task);
}

int64_t Shortest(const InductionPlan& plan) { return std::min(plan.shortest_log, plan.train_log); }

// Accuracy on rows of every length.
absl::Status MeasureLengths(const InductionPlan& plan, const Contender& contender,
                            const ResidualModel& model, uint64_t seed,
                            const ExperimentOptions& options, Measured& measured) {
  for (int64_t log = Shortest(plan); log <= contender.longest; ++log) {
    RESIDUAL_ASSIGN_OR_RETURN(const std::unique_ptr<DataSource> data, Rows(log));
    const int64_t rows = std::clamp<int64_t>(plan.measured_tokens >> log, 16, 256);
    const int64_t batch = std::clamp<int64_t>((int64_t{1} << 14) >> log, 1, 32);
    RESIDUAL_ASSIGN_OR_RETURN(const TaskAccuracy got,
                              MeasureTaskAccuracy(model, *data, seed, rows, batch));
    measured.accuracy[log].push_back(got.fraction());
    measured.state_bytes[log] = got.state_bytes / std::min(batch, rows);
    options.say(absl::StrFormat("  %s, seed %d: %.3f of %d rows of 2^%d", contender.name, seed,
                                got.fraction(), got.answers, log));
  }
  return absl::OkStatus();
}

absl::StatusOr<Measured> Measure(const InductionPlan& plan, const Contender& contender,
                                 const ExperimentOptions& options) {
  Measured measured;
  RESIDUAL_ASSIGN_OR_RETURN(const std::unique_ptr<DataSource> data, Rows(plan.train_log));
  std::vector<std::unique_ptr<DataSource>> lessons;
  for (int64_t log = plan.first_log; log < plan.train_log; ++log) {
    RESIDUAL_ASSIGN_OR_RETURN(lessons.emplace_back(), Rows(log));
  }
  for (int i = 0; i < plan.seeds; ++i) {
    TaskTraining training;
    for (const auto& lesson : lessons) training.lessons.push_back(lesson.get());
    training.model = contender.model;
    training.train.optimizer.kind = OptimizerKind::kAdam;
    training.train.optimizer.beta2 = 0.99;
    training.train.optimizer.eps = plan.eps;
    training.train.schedule.kind = plan.cosine ? ScheduleKind::kCosine : ScheduleKind::kConstant;
    training.train.schedule.lr = contender.lr;
    training.train.schedule.warmup_steps = std::min<int64_t>(100, plan.steps / 10);
    training.train.schedule.total_steps = plan.steps;
    training.train.batch_size = plan.batch_size;
    training.train.label_smoothing = plan.label_smoothing;
    training.pass_state = contender.passes_state ? plan.pass_state : 0;
    training.train.seed = options.seed + i;
    training.steps = plan.steps;
    training.eval_every = plan.eval_every;
    training.eval_rows = 256;
    training.seconds_limit = plan.seconds_limit;
    // Beyond what is learned on these rows: how far it reaches goes on growing.
    training.enough = 2;
    if (!options.out.empty()) {
      training.folder =
          JoinPath(options.out, absl::StrCat(contender.folder, "_", training.train.seed));
    }
    options.say(absl::StrFormat("%s, seed %d: training on rows of %d", contender.name,
                                training.train.seed, data->context()));
    RESIDUAL_ASSIGN_OR_RETURN(
        TaskRun run, TrainOnTask(training, *data, [&](const TaskRun::Point& point) {
          options.say(absl::StrFormat("  step %d, rows of %d: loss %.3g, accuracy %.3f", point.step,
                                      point.context, point.loss, point.accuracy));
        }));
    RESIDUAL_RETURN_IF_ERROR(
        MeasureLengths(plan, contender, *run.model, training.train.seed, options, measured));
    measured.runs.push_back(std::move(run));
  }
  return measured;
}

double Least(const Measured& measured, int64_t from, int64_t to) {
  double least = kInfinity;
  for (const auto& [log, values] : measured.accuracy) {
    if (log < from || log > to) continue;
    least = std::min(least, *std::min_element(values.begin(), values.end()));
  }
  return least;
}

// Of a trained Mamba at the length of its training: the channel whose hidden attention, at the last
// token, is most where what followed the special token the first time is taken in.
absl::StatusOr<ReadingUnit> ReaderOfTheAnswer(const InductionPlan& plan, const ResidualModel& model,
                                              uint64_t seed) {
  RESIDUAL_ASSIGN_OR_RETURN(const std::unique_ptr<DataSource> data, Rows(plan.train_log));
  const Tensor tokens = data->EvalBatch(seed, 0, kLookedAtRows).tokens;
  const int64_t pos = tokens.dim(1);
  std::vector<int64_t> answers;
  for (int64_t row = 0; row < tokens.dim(0); ++row) {
    const int64_t* t = tokens.data<int64_t>() + row * pos;
    answers.push_back(std::find(t, t + pos, kVocabulary - 1) - t + 1);
  }
  return WhoReadsFrom(model, tokens, answers, kAnswerPlaces);
}

double Mean(const Measured& measured, int64_t log) {
  return SpreadOf(measured.accuracy.at(log)).mean;
}

void AddPictures(const InductionPlan& plan, const std::vector<Contender>& contenders,
                 const std::vector<Measured>& all, Report& report) {
  std::vector<Series> lengths, training;
  for (size_t i = 0; i < contenders.size(); ++i) {
    Series series{contenders[i].name, {}, {}, contenders[i].color};
    for (const auto& [log, values] : all[i].accuracy) {
      series.x.push_back(log);
      series.y.push_back(SpreadOf(values).mean);
    }
    lengths.push_back(std::move(series));
    training.push_back(AccuracyCurve(all[i].runs[0], contenders[i].name, contenders[i].color));
  }
  AxesOptions axes;
  axes.y_low = 0;
  axes.y_high = 1;
  axes.y_title = "share of rows answered rightly";
  axes.x_title = absl::StrCat("log₂ of the length of the row (training: ", plan.train_log, ")");
  axes.x_format = "d";
  report.Section("Longer than ever seen");
  report.Plot(LinePlot(lengths, axes), "Accuracy by length. Guessing gives 1/15.",
              "Mamba's accuracy stays at one; attention's falls beyond the training length.");
  axes.x_title = "training step";
  report.Plot(LinePlot(training, axes),
              "Accuracy while training, on held-out rows of the length trained on at that step.",
              "Accuracy over training steps for each model.");

  Table table;
  table.caption = "Mean over the seeds (the paper's in brackets, where it gives one).";
  table.columns = {{"model", false}, {"parameters"}};
  for (int64_t log = Shortest(plan); log <= plan.longest_log; ++log) {
    table.columns.push_back({Html("2") + Sup(absl::StrCat(log))});
  }
  for (size_t i = 0; i < contenders.size(); ++i) {
    std::vector<TableCell> row = {{contenders[i].name}, {absl::StrCat(all[i].runs[0].parameters)}};
    for (int64_t log = Shortest(plan); log <= plan.longest_log; ++log) {
      const auto found = all[i].accuracy.find(log);
      std::string cell = found == all[i].accuracy.end() ? "" : FormatNumber(Mean(all[i], log), 2);
      const auto paper = contenders[i].paper.find(log);
      if (paper != contenders[i].paper.end()) {
        absl::StrAppend(&cell, " (", FormatNumber(paper->second, 2), ")");
      }
      row.push_back({cell});
    }
    table.rows.push_back(std::move(row));
  }
  report.AddTable(table);
}

}  // namespace

absl::StatusOr<Findings> RunInduction(const InductionPlan& plan, const ExperimentOptions& options) {
  const std::vector<Contender> contenders = Contenders(plan);
  std::vector<Measured> all;
  for (const Contender& contender : contenders) {
    RESIDUAL_ASSIGN_OR_RETURN(Measured measured, Measure(plan, contender, options));
    all.push_back(std::move(measured));
  }
  const Measured &mamba = all[0], &learned = all[1], &rotary = all[2], &s4 = all[3];
  const int64_t shortest = Shortest(plan), train = plan.train_log, longest = plan.longest_log;
  const int64_t attention = plan.attention_log, beyond = std::min(plan.claimed_log, attention);
  const double growth = static_cast<double>(mamba.state_bytes.at(longest)) /
                        static_cast<double>(mamba.state_bytes.at(train));
  const std::string at_train = absl::StrCat("2^", train);
  RESIDUAL_ASSIGN_OR_RETURN(const ReadingUnit reader,
                            ReaderOfTheAnswer(plan, *mamba.runs[0].model, options.seed));
  Findings findings{
      {{absl::StrCat("Mamba recalls at the length of training, ", at_train,
                     ": accuracy of the worst seed"),
        1.0, Least(mamba, train, train), 0.99, 1},
       {absl::StrCat("Mamba recalls at every length from 2^", shortest, " to 2^", plan.claimed_log,
                     ": least accuracy of any seed"),
        1.0, Least(mamba, shortest, plan.claimed_log), 0.99, 1},
       {absl::StrCat("what Mamba remembers does not grow with the row: bytes of its state at 2^",
                     longest, " over those at ", at_train),
        1.0, growth, 1, 1},
       {absl::StrCat("attention with rotary positions recalls at ", at_train, ": mean accuracy"),
        1.0, Mean(rotary, train), 0.95, 1},
       {absl::StrCat("attention with learned positions loses it beyond: mean accuracy at ",
                     at_train, " less that at 2^", attention),
        std::nullopt, Mean(learned, train) - Mean(learned, attention), 0.4, 1},
       {absl::StrCat("so does attention with rotary positions: mean accuracy at ", at_train,
                     " less that at 2^", attention),
        std::nullopt, Mean(rotary, train) - Mean(rotary, attention), 0.4, 1},
       {absl::StrCat("S4, the same at every token, recalls no further than it was trained: Mamba's "
                     "mean accuracy at 2^",
                     beyond, " less S4's"),
        std::nullopt, Mean(mamba, beyond) - Mean(s4, beyond), 0.5, 1},
       {absl::StrCat("Mamba's last token reads what followed the special one: share of the hidden "
                     "attention of ",
                     reader.name, " that is on the ", kAnswerPlaces, " places, of ",
                     int64_t{1} << train, ", whose convolution sees both"),
        std::nullopt, reader.share, 0.5, 1}},
      Report("Induction, far beyond the length of training",
             Html("Rows of random tokens hold one special token twice, the second time at the very "
                  "end: say what followed it the first time. Two layers are trained on short rows. "
                  "To answer on rows of any length a model must carry what it needs past "
                  "everything else: Mamba chooses, token by token, what enters its state."))};
  AddPictures(plan, contenders, all, findings.report);
  return findings;
}

absl::StatusOr<Findings> MambaInduction(const ExperimentOptions& options) {
  RESIDUAL_ASSIGN_OR_RETURN(
      const InductionPlan plan,
      PlanWith(options.quick ? QuickInduction() : FullInduction(), options.config));
  return RunInduction(plan, options);
}

}  // namespace residual
