#include "tools/experiments/s4/s4_mnist.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "interp/report/plots.h"
#include "models/checkpoint/config_reader.h"
#include "models/classify/train_classifier.h"
#include "models/data/labeled/drawn_digits.h"
#include "models/transformer/transformer.h"
#include "ops/layout/layout.h"
#include "ops/reduce/reduce.h"
#include "tensor/base/status_macros.h"
#include "tools/experiments/claims/plan.h"
#include "tools/experiments/training/task_training.h"

namespace residual {
namespace {

using nlohmann::json;

constexpr char kFashion[] = "/usr/share/datasets/fashion-mnist";
constexpr int64_t kSteppedRows = 20;  // read pixel by pixel

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// One kind of start, and what was measured of it.
struct Contender {
  const char* name;
  S4Init init;
  int color;
  std::vector<double> accuracy;  // on the test rows, of each seed
  std::vector<ClassifierRun> runs;
};

ClassifierConfig ModelOf(const S4MnistPlan& plan, S4Init init, const LabeledSequences& data) {
  ClassifierConfig c;
  c.channels = data.x.dim(2);
  c.n_classes = data.n_classes;
  c.body.d_model = plan.d_model;
  c.body.d_state = plan.d_state;
  c.body.n_ctx = data.length();
  c.body.blocks.assign(plan.n_layers, {plan.kind});
  c.body.positions = Positions::kNone;
  c.body.s4_init = init;
  c.body.s4_learn_state = plan.learn_state;
  c.body.resid_dropout = plan.dropout;
  return c;
}

ClassifierTraining TrainingOf(const S4MnistPlan& plan, uint64_t seed) {
  ClassifierTraining training;
  training.optimizer.weight_decay = plan.weight_decay;
  training.schedule.kind = ScheduleKind::kCosine;
  training.schedule.lr = plan.lr;
  training.schedule.warmup_steps = 100;
  training.epochs = plan.epochs;
  training.batch_size = plan.batch_size;
  training.seed = seed;
  training.seconds_limit = plan.seconds_limit;
  return training;
}

LabeledSequences FirstRows(const LabeledSequences& data, int64_t n) {
  std::vector<int64_t> rows(n);
  std::iota(rows.begin(), rows.end(), int64_t{0});
  return SelectRows(data, rows);
}

// Read one pixel at a time, as a recurrence.
struct Stepped {
  double same = 0;     // share of rows whose answer is that of the convolution
  double growth = 0;   // bytes kept after the last pixel over those after the first
  double seconds = 0;  // for a pixel of one row
};
Stepped ReadInSteps(const SequenceClassifier& model, const LabeledSequences& test) {
  const LabeledSequences rows = FirstRows(test, std::min(kSteppedRows, test.n()));
  Stepped stepped;
  size_t first = 0, last = 0;
  model.ForwardInChunks(Slice(rows.x, 1, 0, 1), 1, &first);
  const Tensor in_steps = ArgMax(model.ForwardInChunks(rows.x, 1, &last), -1);
  const Tensor whole = ArgMax(model.Forward(rows.x), -1);
  for (int64_t i = 0; i < rows.n(); ++i) {
    stepped.same += in_steps.data<int64_t>()[i] == whole.data<int64_t>()[i];
  }
  stepped.same /= static_cast<double>(rows.n());
  stepped.growth = static_cast<double>(last) / static_cast<double>(first);
  const double start = Seconds();
  model.ForwardInChunks(rows.x.Rows(0, 1), 1);
  stepped.seconds = (Seconds() - start) / static_cast<double>(rows.length());
  return stepped;
}

void AddPictures(const std::vector<Contender>& contenders, Report& report) {
  std::vector<Series> curves;
  std::vector<Bar> bars;
  for (const Contender& contender : contenders) {
    Series series{contender.name, {}, {}, contender.color};
    for (const ClassifierRun::Epoch& epoch : contender.runs[0].epochs) {
      series.x.push_back(static_cast<double>(epoch.step));
      series.y.push_back(epoch.validation);
    }
    curves.push_back(std::move(series));
    const double mean = SpreadOf(contender.accuracy).mean;
    bars.push_back({contender.name, mean, contender.color, contender.accuracy});
  }
  BarOptions bar_options;
  bar_options.value_title = "share of test images told rightly";
  bar_options.format = ".3f";
  bar_options.low = 0;
  bar_options.high = 1;
  report.Section("The same model, another matrix");
  report.Plot(BarPlot(bars, bar_options), "Test accuracy: the mean over seeds, and each seed.",
              "Bars of accuracy for HiPPO and random state matrices.");
  AxesOptions axes;
  axes.x_title = "training step";
  axes.y_title = "accuracy on held-out rows";
  axes.x_format = "d";
  axes.y_low = 0;
  axes.y_high = 1;
  report.Plot(LinePlot(curves, axes), "Accuracy after each epoch, first seed.",
              "Two curves that rise, HiPPO's above the random one.");

  Table table;
  table.caption = "The test rows are looked at once, with the epoch best on the held-out rows.";
  table.columns = {
      {"state matrices", false}, {"seed"}, {"best epoch"}, {"validation"}, {"test"}, {"minutes"}};
  for (const Contender& contender : contenders) {
    for (size_t i = 0; i < contender.runs.size(); ++i) {
      const ClassifierRun& run = contender.runs[i];
      table.rows.push_back({{contender.name},
                            {absl::StrCat(i + 1)},
                            {absl::StrCat(run.best + 1, " of ", run.epochs.size())},
                            {FormatNumber(run.epochs[run.best].validation, 4)},
                            {FormatNumber(contender.accuracy[i], 4)},
                            {FormatNumber(run.epochs.back().seconds / 60, 1)}});
    }
  }
  report.AddTable(table);
}

}  // namespace

S4MnistPlan CpuS4Mnist() { return {}; }

S4MnistPlan QuickS4Mnist() {
  S4MnistPlan plan;
  plan.d_model = 32;
  plan.epochs = 6;
  plan.rows = 3000;
  plan.validation = 500;
  plan.pool = 2;
  plan.lr = 1e-2;
  plan.seconds_limit = 120;
  plan.hippo_least = 0.95;
  plan.random_most = 0.9;
  plan.gap_least = 0.08;
  return plan;
}

absl::StatusOr<S4MnistPlan> ChangedPlan(S4MnistPlan plan, const json& changes,
                                        const std::string& source) {
  ConfigReader c(changes, source);
  const auto kind = [](absl::string_view name) -> std::optional<std::string> {
    if (name == "s4" || name == "s4d" || name == "dss") return std::string(name);
    return std::nullopt;
  };
  plan.kind = c.ChoiceOr<std::string>("kind", plan.kind, kind, {"s4", "s4d", "dss"});
  plan.d_model = c.IntOr("d_model", plan.d_model, 1, 1 << 14);
  plan.d_state = c.IntOr("d_state", plan.d_state, 2, 1 << 12);
  plan.n_layers = c.IntOr("n_layers", plan.n_layers, 1, 1 << 8);
  plan.dropout = c.NumberOr("dropout", plan.dropout, 0, 0.99);
  plan.learn_state = c.BoolOr("learn_state", plan.learn_state);
  plan.epochs = c.IntOr("epochs", plan.epochs, 1, 1 << 20);
  plan.batch_size = c.IntOr("batch_size", plan.batch_size, 1, 1 << 16);
  plan.lr = c.NumberOr("lr", plan.lr, 0, 1e3);
  plan.weight_decay = c.NumberOr("weight_decay", plan.weight_decay, 0, 1e3);
  plan.seeds = c.IntOr("seeds", plan.seeds, 1, 1000);
  plan.rows = c.IntOr("rows", plan.rows, 0, int64_t{1} << 40);
  plan.validation = c.IntOr("validation", plan.validation, 1, int64_t{1} << 40);
  plan.pool = c.IntOr("pool", plan.pool, 1, 1 << 10);
  plan.seconds_limit = c.NumberOr("seconds_limit", plan.seconds_limit, 0, 1e12);
  c.FailOnUnreadKeys({});
  RESIDUAL_RETURN_IF_ERROR(c.status());
  return plan;
}

absl::StatusOr<Findings> RunS4Mnist(const S4MnistPlan& plan, const TrainAndTest& data,
                                    const std::string& data_name,
                                    const ExperimentOptions& options) {
  RESIDUAL_ASSIGN_OR_RETURN(const LabeledSequences all, PoolImages(data.train, plan.pool));
  RESIDUAL_ASSIGN_OR_RETURN(const LabeledSequences test, PoolImages(data.test, plan.pool));
  RESIDUAL_ASSIGN_OR_RETURN(LabeledSplit split, SplitRows(all, plan.validation, 0, options.seed));
  if (plan.rows > 0 && plan.rows < split.train.n()) {
    split.train = FirstRows(split.train, plan.rows);
  }
  options.say(absl::StrFormat("%s: %d images of %d pixels to train on, %d held out, %d to test",
                              data_name, split.train.n(), all.length(), split.validation.n(),
                              test.n()));
  std::vector<Contender> contenders = {{"HiPPO (LegS)", S4Init::kLegS, 0, {}, {}},
                                       {"random", S4Init::kRandom, 1, {}, {}}};
  Stepped stepped;
  int64_t parameters = 0;
  for (Contender& contender : contenders) {
    for (int64_t i = 0; i < plan.seeds; ++i) {
      const uint64_t seed = options.seed + i;
      RESIDUAL_ASSIGN_OR_RETURN(const std::unique_ptr<SequenceClassifier> model,
                                SequenceClassifier::Make(ModelOf(plan, contender.init, all)));
      Initialize(*model, seed);
      parameters = CountParameters(*model);
      options.say(absl::StrFormat("%s state matrices, seed %d", contender.name, seed));
      RESIDUAL_ASSIGN_OR_RETURN(
          ClassifierRun run,
          TrainClassifier(TrainingOf(plan, seed), *model, split.train, split.validation,
                          [&](const ClassifierRun::Epoch& epoch) {
                            options.say(absl::StrFormat(
                                "  step %d: loss %.3f, validation accuracy %.4f, %.0f s",
                                epoch.step, epoch.loss, epoch.validation, epoch.seconds));
                          }));
      contender.accuracy.push_back(ScoreClassifier(*model, test).accuracy);
      options.say(absl::StrFormat("  test accuracy %.4f", contender.accuracy.back()));
      contender.runs.push_back(std::move(run));
      if (&contender == &contenders[0] && i == 0) stepped = ReadInSteps(*model, test);
    }
  }
  const Spread hippo = SpreadOf(contenders[0].accuracy), random = SpreadOf(contenders[1].accuracy);
  const double worst = *absl::c_min_element(contenders[0].accuracy);
  const double best = *absl::c_max_element(contenders[1].accuracy);
  const auto mean_of = [&](const char* which, const Spread& spread) {
    return absl::StrFormat("%s state matrices: mean test accuracy of %d seeds (spread %.4f)", which,
                           plan.seeds, spread.deviation);
  };
  Findings findings{
      {{mean_of("HiPPO's", hippo), 0.98, hippo.mean, plan.hippo_least, 1},
       {mean_of("random", random), 0.60, random.mean, 0.2, plan.random_most},
       {"the gap: mean test accuracy with HiPPO's matrices less that with random ones", 0.38,
        hippo.mean - random.mean, plan.gap_least, 1},
       {"no luck of a seed: the worst with HiPPO's matrices less the best with random ones",
        std::nullopt, worst - best, 1e-9, 1},
       {"the convolution it is trained as is the recurrence it can be read as: share of images "
        "with the same answer pixel by pixel",
        1.0, stepped.same, 1, 1},
       {"what it remembers does not grow: bytes kept after the last pixel over those after the "
        "first",
        1.0, stepped.growth, 1, 1}},
      Report("Digits, pixel by pixel",
             Html("A state space reads an image as one long row of pixels and says what it shows. "
                  "Two models that differ in nothing but what their state matrices start from are "
                  "trained alike: HiPPO's keep the past as coefficients of polynomials; random "
                  "ones keep what they happen to."))};
  findings.report.Paragraph(Html(absl::StrFormat(
      "Data: %s, %d images of %d pixels to train on. %d parameters. The state matrices are %s. As "
      "a "
      "recurrence a pixel takes %.0f microseconds.",
      data_name, split.train.n(), all.length(), parameters,
      plan.learn_state ? "trained too" : "left as they are in both", 1e6 * stepped.seconds)));
  AddPictures(contenders, findings.report);
  return findings;
}

absl::StatusOr<Findings> S4Mnist(const ExperimentOptions& options) {
  S4MnistPlan plan = options.quick ? QuickS4Mnist() : CpuS4Mnist();
  TrainAndTest data;
  std::string name = options.data;
  if (name.empty() && !options.quick && std::filesystem::exists(kFashion)) {
    name = kFashion;
  }
  if (name == kFashion) plan.hippo_least = 0.8;
  RESIDUAL_ASSIGN_OR_RETURN(plan, PlanWith(plan, options.config));
  if (name.empty()) {
    name = "digits drawn here";
    data = {DrawnDigits(16000, 28, 1), DrawnDigits(2500, 28, 2)};
  } else {
    RESIDUAL_ASSIGN_OR_RETURN(data, ReadIdxFolder(name));
  }
  return RunS4Mnist(plan, data, name, options);
}

}  // namespace residual
