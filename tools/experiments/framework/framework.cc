#include "tools/experiments/framework/framework.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "interp/framework/framework_report.h"
#include "interp/framework/measures.h"
#include "models/checkpoint/config_reader.h"
#include "models/train/trainer.h"
#include "tensor/base/status_macros.h"
#include "tools/experiments/claims/plan.h"
#include "tools/experiments/text_models/text_models.h"
#include "tools/experiments/training/task_training.h"
#include "tools/own_text/own_text.h"

namespace residual {
namespace {

using nlohmann::json;

constexpr double kAny = std::numeric_limits<double>::max();

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::unique_ptr<ResidualModel> NewModel(const FrameworkPlan& plan, int64_t d_vocab, int layers,
                                        uint64_t seed) {
  AttentionOnly shape;
  shape.layers = layers;
  shape.d_model = plan.d_model;
  shape.n_heads = plan.n_heads;
  shape.context = plan.context;
  shape.d_vocab = d_vocab;
  shape.init_scale = plan.init_scale;
  shape.sum_of_paths = true;
  return NewAttentionOnly(shape, seed);
}

// Trains in place.
absl::Status Train(const FrameworkPlan& plan, const DataSource& data,
                   const ExperimentOptions& options, ResidualModel& model, FrameworkMeasures& m) {
  TrainConfig train;
  train.optimizer.beta2 = 0.99;
  train.optimizer.weight_decay = plan.weight_decay;
  train.schedule.kind = ScheduleKind::kCosine;
  train.schedule.lr = plan.lr;
  train.schedule.warmup_steps = std::min<int64_t>(100, plan.steps / 10);
  train.schedule.total_steps = plan.steps;
  train.schedule.final_fraction = 0.1;
  train.batch_size = plan.batch_size;
  train.seed = m.seed;
  Trainer trainer(train, model, data);
  const double start = Seconds();
  const int64_t late = std::max<int64_t>(1, plan.steps / 50);
  const int layers = model.n_layers();
  while (trainer.step() < plan.steps) {
    RESIDUAL_ASSIGN_OR_RETURN(const StepResult step, trainer.Step());
    if (trainer.step() > plan.steps - late) m.train_loss[layers] += step.loss / late;
    if (trainer.step() % std::max<int64_t>(1, plan.steps / 4) == 0) {
      options.say(absl::StrFormat("  %d layers, seed %d, step %d: loss %.3f, %.0f s", layers,
                                  m.seed, trainer.step(), step.loss, Seconds() - start));
    }
  }
  m.parameters[layers] = CountParameters(model);
  m.seconds[layers] = Seconds() - start;
  return absl::OkStatus();
}

absl::StatusOr<FrameworkMeasures> MeasureSeed(const FrameworkPlan& plan, const TokenizedText& text,
                                              uint64_t seed, const ExperimentOptions& options) {
  const int64_t d_vocab = static_cast<int64_t>(text.vocabulary.size());
  TextOptions windows;
  windows.context = plan.context;
  RESIDUAL_ASSIGN_OR_RETURN(const std::unique_ptr<DataSource> plain,
                            MakeTextData(text.tokens, d_vocab, windows));
  windows.repeat = windows.eval_repeat = plan.repeat;
  RESIDUAL_ASSIGN_OR_RETURN(const std::unique_ptr<DataSource> repeated,
                            MakeTextData(text.tokens, d_vocab, windows));
  // Of what is trained on: the first nine tenths.
  const size_t trained = text.tokens.size() - text.tokens.size() / 10;
  const BigramTable bigrams(absl::MakeConstSpan(text.tokens).subspan(0, trained), d_vocab);
  const Tensor rows = plain->EvalBatch(seed, 0, plan.rows).tokens;
  const auto untrained = [&](int layers, uint64_t with) {
    return NewModel(plan, d_vocab, layers, with);
  };
  FrameworkMeasures m;
  m.seed = seed;
  std::unique_ptr<ResidualModel> model = untrained(0, seed);
  m.untrained_bigrams = CompareWithBigrams(DirectPathLogits(*model), bigrams);
  RESIDUAL_RETURN_IF_ERROR(Train(plan, *plain, options, *model, m));
  m.bigrams = CompareWithBigrams(DirectPathLogits(*model), bigrams);

  model = untrained(1, seed);
  RESIDUAL_RETURN_IF_ERROR(Train(plan, *repeated, options, *model, m));
  RESIDUAL_RETURN_IF_ERROR(MeasureOneLayer(
      *model, [&](int64_t i) { return untrained(1, seed + 1000 + i); }, plan.random_models, bigrams,
      rows, plan.crossed_per_head, m));

  model = untrained(2, seed);
  RESIDUAL_RETURN_IF_ERROR(Train(plan, *repeated, options, *model, m));
  RESIDUAL_RETURN_IF_ERROR(MeasureTwoLayers(*model, *untrained(2, seed), bigrams,
                                            repeated->EvalBatch(seed, 1, plan.rows), rows,
                                            text.occurring(), m));
  return m;
}

// Written down from what the paper says, before anything ran: signs, ranks and counts against
// chance, not its sizes, which are of models a thousand times as large.
std::vector<Claim> ClaimsOf(const FrameworkPlan& plan, const std::vector<FrameworkMeasures>& all) {
  const std::optional<double> none;
  const auto lift = [](const FrameworkMeasures& m) { return m.bigrams.lift_correlation; };
  const auto random_mean = [](const FrameworkMeasures& m) {
    const Spread spread = SpreadOf(m.random_copying);
    const double n = static_cast<double>(m.random_copying.size());
    return std::abs(spread.mean) / (spread.deviation / std::sqrt(n));
  };
  const auto crossed = [](const FrameworkMeasures& m) {
    return static_cast<double>(m.crossed.size());
  };
  const auto second_layer = [](const FrameworkMeasures& m) {
    return m.terms.layer_alone(1) / m.terms.single_heads();
  };
  const auto layers = [](const FrameworkMeasures& m) {
    return m.terms.layer_alone(1) - m.terms.layer_alone(0);
  };
  return {
      {"no layers: W_E W_U approximates the bigram table; the share it has of what bigrams say "
       "beyond how common tokens are, 1 - KL(bigrams, softmax) / KL(bigrams, unigrams)",
       none, LeastOf(all, [](auto& m) { return m.bigrams.share(); }), 0.5, 1},
      {"no layers: how much a token raises the next one's log-probability, in the text and by "
       "W_E W_U: correlation over pairs seen 10 times",
       none, LeastOf(all, lift), 0.7, 1},
      {"one and two layers: logits are the sum over paths through heads with their patterns held: "
       "largest error relative to the largest logit",
       0.0,
       MostOf(all, [](auto& m) { return std::max(m.expansion_error[0], m.expansion_error[1]); }), 0,
       1e-5},
      {"one layer: share of heads that copy, their sum Re(eigenvalues) / sum |eigenvalues| of "
       "W_E OV W_U above 97.5 % of untrained heads",
       10.0 / 12, LeastOf(all, CopyingHeads), 0.5, 1},
      {"untrained heads have no sign: distance of the mean of that score from 0, in its standard "
       "errors",
       0.0, MostOf(all, random_mean), 0, 4},
      {"one layer: pairs of skip-trigrams of one source and head whose outs never follow each "
       "other's destination in the text",
       none, LeastOf(all, crossed), 3, kAny},
      {"one layer: share of these crossed pairs that the source raises all the same, in the whole "
       "model (half of all tokens are raised)",
       1.0, LeastOf(all, CrossedRaised), 0.75, 1},
      {"two layers: the largest K-composition over what it is of untrained heads", none,
       LeastOf(all, [](auto& m) { return Largest(m.k.score) / m.random_k; }), 1.5, kAny},
      {"two layers: only K-composition stands out: the largest above chance, over the largest of "
       "Q and V above chance",
       none, LeastOf(all, [&](auto& m) { return KOverOthers(m, plan.d_model); }), 1, kAny},
      {"two layers: it is with a previous-token head: that head's attention to the token before, "
       "over the most of any head of its layer",
       1.0, LeastOf(all, KWriterLooksBack), 0.5, 1},
      {"two layers: induction: value-weighted attention of the best head, on random tokens three "
       "times, to what followed earlier occurrences",
       none, LeastOf(all, BestPrefix), 0.4, 1},
      {"two layers: induction heads match and copy: the lower of their eigenvalue positivities (QK "
       "through K-composition, OV), the least of them",
       1.0, LeastOf(all, LeastCorner), 0.5, 1},
      {"two layers: they alone are in that corner: the same less the largest of the other heads",
       none, LeastOf(all, [](auto& m) { return LeastCorner(m) - LargestOutsideCorner(m); }), 0, 2},
      {"two layers: what virtual heads (V-composition) take off the loss, of what all heads do",
       0.3 / 5.5, MostOf(all, VirtualShare), -0.1, 0.25},
      {"two layers: single heads of the second layer carry most: what they alone take off the loss "
       "after the direct path, of what all single heads do",
       none, LeastOf(all, second_layer), 0.5, 1.5},
      {"two layers: they take off more than those of the first: nats more", none,
       LeastOf(all, layers), 0, kAny},
  };
}

}  // namespace

FrameworkPlan FullFramework() {
  FrameworkPlan plan;
  plan.d_model = 192;
  plan.n_heads = 12;
  plan.vocab_size = 1024;
  plan.context = 128;
  plan.steps = 4000;
  plan.seeds = 3;
  plan.rows = 32;
  return plan;
}

FrameworkPlan QuickFramework() { return {}; }

absl::StatusOr<FrameworkPlan> ChangedPlan(FrameworkPlan plan, const json& changes,
                                          const std::string& source) {
  ConfigReader c(changes, source);
  plan.d_model = c.IntOr("d_model", plan.d_model, 2, 1 << 14);
  plan.n_heads = c.IntOr("n_heads", plan.n_heads, 1, 1 << 10);
  plan.context = c.IntOr("context", plan.context, 12, 1 << 16);
  plan.vocab_size = c.IntOr("vocab_size", plan.vocab_size, 256, 1 << 16);
  plan.batch_size = c.IntOr("batch_size", plan.batch_size, 1, 1 << 16);
  plan.steps = c.IntOr("steps", plan.steps, 1, int64_t{1} << 40);
  plan.lr = c.NumberOr("lr", plan.lr, 0, 1e3);
  plan.weight_decay = c.NumberOr("weight_decay", plan.weight_decay, 0, 1e3);
  plan.init_scale = c.NumberOr("init_scale", plan.init_scale, 1e-6, 1e3);
  plan.repeat = c.NumberOr("repeat", plan.repeat, 0, 1);
  plan.seeds = c.IntOr("seeds", plan.seeds, 1, 1000);
  plan.rows = c.IntOr("rows", plan.rows, 1, 1 << 12);
  plan.random_models = c.IntOr("random_models", plan.random_models, 1, 1 << 12);
  plan.crossed_per_head = c.IntOr("crossed_per_head", plan.crossed_per_head, 1, 1 << 12);
  if (c.status().ok() && plan.d_model % plan.n_heads != 0) {
    c.FailField("n_heads", plan.n_heads, absl::StrCat("a divisor of 'd_model', ", plan.d_model));
  }
  c.FailOnUnreadKeys({});
  RESIDUAL_RETURN_IF_ERROR(c.status());
  return plan;
}

absl::StatusOr<Findings> RunFramework(const FrameworkPlan& plan, const std::string& text,
                                      const std::string& name, const ExperimentOptions& options) {
  RESIDUAL_ASSIGN_OR_RETURN(const TokenizedText tokens, TokenizeText(text, plan.vocab_size));
  options.say(absl::StrFormat("%s: %d bytes, %d tokens of %d kinds", name, text.size(),
                              tokens.tokens.size(), tokens.vocabulary.size()));
  std::vector<FrameworkMeasures> all;
  for (int64_t i = 0; i < plan.seeds; ++i) {
    RESIDUAL_ASSIGN_OR_RETURN(
        FrameworkMeasures m,
        MeasureSeed(plan, tokens, options.seed + static_cast<uint64_t>(i), options));
    all.push_back(std::move(m));
  }
  FrameworkSetup setup;
  setup.text_name = name;
  setup.tokens = static_cast<int64_t>(tokens.tokens.size());
  setup.vocabulary = tokens.vocabulary;
  setup.d_model = plan.d_model;
  setup.n_heads = plan.n_heads;
  setup.context = plan.context;
  setup.batch_size = plan.batch_size;
  setup.steps = plan.steps;
  setup.repeat = plan.repeat;
  return Findings{ClaimsOf(plan, all), FrameworkReport(setup, all[0])};
}

absl::StatusOr<Findings> Framework(const ExperimentOptions& options) {
  RESIDUAL_ASSIGN_OR_RETURN(
      const FrameworkPlan plan,
      PlanWith(options.quick ? QuickFramework() : FullFramework(), options.config));
  RESIDUAL_ASSIGN_OR_RETURN(const NamedText text,
                            ReadTextOrOwn(options.data, options.program, "--data=FILE"));
  return RunFramework(plan, text.bytes, text.name, options);
}

}  // namespace residual
