#include "tools/experiments/phase/induction_phase.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "interp/induction/phase_curves.h"
#include "interp/induction/phase_report.h"
#include "interp/induction/study.h"
#include "interp/report/html.h"
#include "models/checkpoint/config_reader.h"
#include "models/train/trainer.h"
#include "tensor/base/status_macros.h"
#include "tools/experiments/claims/plan.h"
#include "tools/experiments/text_models/text_models.h"
#include "tools/own_text/own_text.h"

namespace residual {
namespace {

using nlohmann::json;

constexpr double kAny = std::numeric_limits<double>::max();
constexpr double kFormed = 0.3;  // a best induction score that counts as induction

struct Kind {
  const char* name;
  int layers;
  bool smeared;
  int color;
};
constexpr Kind kKinds[] = {{"two layers", 2, false, 0},
                           {"one layer", 1, false, 4},
                           {"two layers, smeared keys", 2, true, 1},
                           {"one layer, smeared keys", 1, true, 2}};
enum { kTwo, kOne, kTwoSmeared, kOneSmeared };

// One seed: the curves of all four, and what is under those of the first.
struct SeedRun {
  std::vector<TrainingPoint> points[4];
  std::vector<std::string> smears;  // of the smeared models, "L0H1 0.21": what is kept of each key
  AblationStudy ablations;
  double induction(int kind) const {
    double best = 0;
    for (const TrainingPoint& point : points[kind]) best = std::max(best, point.best_induction);
    return best;
  }
  double icl(int kind) const { return points[kind].back().icl_score; }
};

void ReadSmears(ResidualModel& model, const Kind& kind, std::vector<std::string>& smears) {
  for (const Parameter& parameter : Parameters(model)) {
    if (!GlobMatches("blocks.*.attn.alpha", parameter.name)) continue;
    std::vector<std::string> shares;
    for (const double alpha : parameter.value->ToDoubles()) {
      shares.push_back(FormatNumber(1 / (1 + std::exp(-alpha)), 2));
    }
    smears.push_back(
        absl::StrCat(kind.name, ", ", parameter.name, ": ", absl::StrJoin(shares, ", ")));
  }
}

absl::StatusOr<SeedRun> RunSeed(const PhasePlan& plan, const DataSource& data,
                                const DataSource& held_out, const std::vector<int64_t>& occurring,
                                uint64_t seed, const ExperimentOptions& options) {
  const Probes probes = MakeProbes(data, held_out, occurring, seed);
  SeedRun run;
  for (int i = 0; i < 4; ++i) {
    const Kind& kind = kKinds[i];
    AttentionOnly shape;
    shape.layers = kind.layers;
    shape.d_model = plan.d_model;
    shape.n_heads = plan.n_heads;
    shape.context = plan.context;
    shape.d_vocab = data.d_vocab();
    // Half the usual: the first heads to learn a pattern are then well ahead, so fewer share it.
    shape.init_scale = 0.01;
    shape.smeared_keys = kind.smeared;
    const std::unique_ptr<ResidualModel> model = NewAttentionOnly(shape, seed);
    TrainConfig train;
    train.optimizer.weight_decay = plan.weight_decay;
    train.schedule.lr = plan.lr;
    train.schedule.warmup_steps = std::min<int64_t>(50, plan.steps / 10);
    train.batch_size = plan.batch_size;
    train.seed = seed;
    Trainer trainer(train, *model, data);
    TrainPlan steps;
    steps.max_steps = plan.steps;
    steps.every = std::max<int64_t>(1, plan.steps / plan.checkpoints);
    const int64_t said = steps.every * std::max<int64_t>(1, plan.checkpoints / 3);
    const auto on_step = [&](const StepResult& step, const TrainingPoint& point) {
      if ((step.step + 1) % said == 0) {
        options.say(absl::StrFormat(
            "  %s, seed %d, step %d: loss %.2f, induction %.2f, in-context %.2f", kind.name, seed,
            step.step + 1, step.loss, point.best_induction, point.icl_score));
      }
      return true;
    };
    RESIDUAL_ASSIGN_OR_RETURN(run.points[i], TrainAndMeasure(trainer, probes, steps, on_step));
    if (kind.smeared) ReadSmears(*model, kind, run.smears);
    if (i == kTwo) {
      RESIDUAL_ASSIGN_OR_RETURN(const HeadScores scores,
                                ScoreHeads(*model, probes.repeated_random));
      RESIDUAL_ASSIGN_OR_RETURN(run.ablations, StudyAblations(*model, scores, probes, seed));
    }
  }
  return run;
}

std::vector<Claim> ClaimsOf(const std::vector<SeedRun>& runs) {
  const std::optional<double> none;
  const auto numbers = [](const SeedRun& run) { return ReadCurves(run.points[kTwo]); };
  const auto apart = [&](const SeedRun& run) {
    const PhaseNumbers n = numbers(run);
    return std::abs(static_cast<double>(n.steepest_prefix) - static_cast<double>(n.steepest_icl));
  };
  const auto bend = [&](const SeedRun& run) {
    return LossBend(run.points[kTwo], numbers(run).window);
  };
  const auto beyond_one = [&](const SeedRun& run) {
    const PhaseChange window = numbers(run).window;
    return SteepestFall(run.points[kTwo], window) /
           std::max(SteepestFall(run.points[kOne], window), 1e-9);
  };
  const auto earlier = [](const SeedRun& run) {
    return TokensUntil(run.points[kTwoSmeared], kFormed) / TokensUntil(run.points[kTwo], kFormed);
  };
  const auto left = [](const SeedRun& run) {
    return run.ablations.frozen.without_induction / run.ablations.icl_score;
  };
  const auto left_by_others = [](const SeedRun& run) {
    return run.ablations.frozen.random_mean / run.ablations.icl_score;
  };
  const std::string icl = "in-context score (loss late in the context less loss early), ";
  return {
      {"two layers form induction heads: largest prefix-matching score of any head", none,
       LeastOf(runs, [](auto& run) { return run.induction(kTwo); }), kFormed, 1},
      {"one layer never does: the same", none,
       MostOf(runs, [](auto& run) { return run.induction(kOne); }), 0, 0.15},
      {absl::StrCat(icl, "two layers, nats"), -0.4,
       MostOf(runs, [](auto& run) { return run.icl(kTwo); }), -kAny, -0.4},
      {absl::StrCat(icl, "one layer over two layers"), none,
       MostOf(runs, [](auto& run) { return run.icl(kOne) / run.icl(kTwo); }), -1, 0.5},
      {"two layers: induction heads form in a narrow window: its share of all training, from a "
       "tenth to nine tenths of the score's rise",
       0.25, MostOf(runs, [&](auto& run) { return numbers(run).window_share; }), 1e-9, 0.4},
      {"two layers: share of the final in-context score that comes about in this window", 0.75,
       LeastOf(runs, [&](auto& run) { return numbers(run).icl_in_window; }), 0.5, 1.5},
      {"two layers: measurements between the steepest rise of prefix matching and the steepest "
       "fall of the in-context score",
       0.0, MostOf(runs, apart), 0, 1},
      {"two layers: the loss bends down in the window: its steepest fall there, over that before "
       "the window (a convex curve: at most 1)",
       none, LeastOf(runs, bend), 1.5, kAny},
      {"and over the steepest fall of one layer at that time", none, LeastOf(runs, beyond_one), 2,
       kAny},
      {"smeared keys give it to one layer: largest prefix-matching score", none,
       LeastOf(runs, [](auto& run) { return run.induction(kOneSmeared); }), kFormed, 1},
      {"and the in-context score: one layer with smeared keys over two layers", none,
       LeastOf(runs, [](auto& run) { return run.icl(kOneSmeared) / run.icl(kTwo); }), 0.6, kAny},
      {"smeared keys make it earlier for two layers: tokens until prefix matching is 0.3, over "
       "those with plain keys",
       none, MostOf(runs, earlier), 0, 0.95},
      {"two layers, patterns held: share of the in-context score left without the induction heads",
       none, MostOf(runs, left), -1, 0.4},
      {"and without as many other heads", none, LeastOf(runs, left_by_others), 0.7, 2},
  };
}

PhaseStudy StudyOf(const SeedRun& run) {
  PhaseStudy study;
  for (int i = 0; i < 4; ++i)
    study.curves.push_back({kKinds[i].name, kKinds[i].color, run.points[i]});
  study.smears = run.smears;
  study.ablations = run.ablations;
  return study;
}

}  // namespace

PhasePlan FullPhase() {
  PhasePlan plan;
  plan.d_model = 128;
  plan.n_heads = 8;
  plan.context = 128;
  plan.steps = 3000;
  plan.checkpoints = 50;
  plan.seeds = 3;
  return plan;
}

PhasePlan QuickPhase() { return {}; }

absl::StatusOr<PhasePlan> ChangedPlan(PhasePlan plan, const json& changes,
                                      const std::string& source) {
  ConfigReader c(changes, source);
  plan.d_model = c.IntOr("d_model", plan.d_model, 2, 1 << 14);
  plan.n_heads = c.IntOr("n_heads", plan.n_heads, 1, 1 << 10);
  plan.context = c.IntOr("context", plan.context, 16, 1 << 16);
  plan.vocab_size = c.IntOr("vocab_size", plan.vocab_size, 256, 1 << 16);
  plan.batch_size = c.IntOr("batch_size", plan.batch_size, 1, 1 << 16);
  plan.steps = c.IntOr("steps", plan.steps, 1, int64_t{1} << 40);
  plan.checkpoints = c.IntOr("checkpoints", plan.checkpoints, 1, 1 << 20);
  plan.lr = c.NumberOr("lr", plan.lr, 0, 1e3);
  plan.weight_decay = c.NumberOr("weight_decay", plan.weight_decay, 0, 1e3);
  plan.repeat = c.NumberOr("repeat", plan.repeat, 0, 1);
  plan.seeds = c.IntOr("seeds", plan.seeds, 1, 1000);
  if (c.status().ok() && plan.d_model % plan.n_heads != 0) {
    c.FailField("n_heads", plan.n_heads, absl::StrCat("a divisor of 'd_model', ", plan.d_model));
  }
  c.FailOnUnreadKeys({});
  RESIDUAL_RETURN_IF_ERROR(c.status());
  return plan;
}

absl::StatusOr<Findings> RunPhase(const PhasePlan& plan, const std::string& text,
                                  const std::string& name, const ExperimentOptions& options) {
  RESIDUAL_ASSIGN_OR_RETURN(const TokenizedText tokens, TokenizeText(text, plan.vocab_size));
  const int64_t d_vocab = static_cast<int64_t>(tokens.vocabulary.size());
  options.say(absl::StrFormat("%s: %d bytes, %d tokens of %d kinds", name, text.size(),
                              tokens.tokens.size(), d_vocab));
  TextOptions windows;
  windows.context = plan.context;
  windows.repeat = plan.repeat;
  RESIDUAL_ASSIGN_OR_RETURN(const std::unique_ptr<DataSource> data,
                            MakeTextData(tokens.tokens, d_vocab, windows));
  windows.eval_repeat = plan.repeat;
  RESIDUAL_ASSIGN_OR_RETURN(const std::unique_ptr<DataSource> held_out,
                            MakeTextData(tokens.tokens, d_vocab, windows));
  const std::vector<int64_t> occurring = tokens.occurring();
  std::vector<SeedRun> runs;
  for (int64_t i = 0; i < plan.seeds; ++i) {
    RESIDUAL_ASSIGN_OR_RETURN(SeedRun run,
                              RunSeed(plan, *data, *held_out, occurring,
                                      options.seed + static_cast<uint64_t>(i), options));
    runs.push_back(std::move(run));
  }
  Findings findings{
      ClaimsOf(runs),
      Report("The phase change of induction heads",
             Html("Early in training something sudden happens to transformers of two layers and "
                  "more: within a short time heads form that look for what followed last time, and "
                  "with them the model begins to learn from its context. One layer cannot: the key "
                  "of a token knows nothing of the token before. If keys are mixed with those "
                  "before them, it can."))};
  findings.report.Paragraph(Html(absl::StrFormat(
      "Four models on %s, %d tokens of %d kinds: attention alone with layer norms, %d heads of "
      "width %d, windows of %d tokens (%d %% of them a passage repeated, which brings the change "
      "from billions of tokens to these), %d of them a step. Curves are of seed %d.",
      name, tokens.tokens.size(), d_vocab, plan.n_heads, plan.d_model / plan.n_heads, plan.context,
      static_cast<int>(std::lround(100 * plan.repeat)), plan.batch_size, options.seed)));
  AddPhasePictures(StudyOf(runs[0]), findings.report);
  return findings;
}

absl::StatusOr<Findings> InductionPhase(const ExperimentOptions& options) {
  RESIDUAL_ASSIGN_OR_RETURN(const PhasePlan plan,
                            PlanWith(options.quick ? QuickPhase() : FullPhase(), options.config));
  RESIDUAL_ASSIGN_OR_RETURN(const NamedText text,
                            ReadTextOrOwn(options.data, options.program, "--data=FILE"));
  return RunPhase(plan, text.bytes, text.name, options);
}

}  // namespace residual
