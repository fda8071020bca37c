#include "interp/induction/study.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "tensor/base/status_macros.h"

namespace residual {
namespace {

constexpr int64_t kProbeRows = 16;  // of repeated random tokens
constexpr int64_t kHeldOutRows = 64;
constexpr size_t kRandomSets = 12;
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

double Mean(const std::vector<double>& values) {
  return values.empty() ? kNone
                        : std::accumulate(values.begin(), values.end(), 0.0) /
                              static_cast<double>(values.size());
}

bool Contains(const std::vector<HeadIndex>& heads, const HeadIndex& head) {
  return std::find(heads.begin(), heads.end(), head) != heads.end();
}

double Score(const HeadTable& table, const HeadIndex& head) { return table[head.layer][head.head]; }

// Measures losses on the held-out windows with heads knocked out.
class HeldOut {
 public:
  HeldOut(const ResidualModel& model, const TrainingBatch& batch) : model_(model), batch_(batch) {}

  absl::StatusOr<std::vector<double>> Losses(const std::vector<HeadIndex>& ablated,
                                             const std::vector<Tensor>& frozen = {}) const {
    return LossByPosition(model_, batch_.tokens, batch_.targets, ablated, frozen);
  }
  absl::StatusOr<double> Icl(const std::vector<HeadIndex>& ablated,
                             const std::vector<Tensor>& frozen = {}) const {
    RESIDUAL_ASSIGN_OR_RETURN(const std::vector<double> losses, Losses(ablated, frozen));
    return InContextScore(losses);
  }

 private:
  const ResidualModel& model_;
  const TrainingBatch& batch_;
};

absl::StatusOr<KnockOut> KnockOutWith(const HeldOut& held_out, const AblationStudy& study,
                                      const std::vector<Tensor>& frozen) {
  KnockOut result;
  RESIDUAL_ASSIGN_OR_RETURN(result.without_induction, held_out.Icl(study.induction_heads, frozen));
  std::vector<double> effects;
  for (const std::vector<HeadIndex>& set : study.random_sets) {
    RESIDUAL_ASSIGN_OR_RETURN(const double icl, held_out.Icl(set, frozen));
    result.without_random.push_back(icl);
    effects.push_back(std::abs(icl - study.icl_score));
  }
  std::vector<HeadIndex> matched = study.induction_heads;
  if (!study.random_sets.empty()) matched.resize(study.random_sets[0].size());
  RESIDUAL_ASSIGN_OR_RETURN(result.without_matched, held_out.Icl(matched, frozen));
  result.random_mean = Mean(result.without_random);
  const double random_effect = Mean(effects);
  result.ratio = std::isnan(random_effect)
                     ? kNone
                     : (result.without_matched - study.icl_score) /
                           std::max({random_effect, 0.01 * std::abs(study.icl_score), 1e-9});
  return result;
}

void DivideByLargest(std::vector<std::complex<double>>& values) {
  double largest = 0;
  for (const auto& value : values) largest = std::max(largest, std::abs(value));
  if (largest == 0) return;
  for (auto& value : values) value /= largest;
}

}  // namespace

Probes MakeProbes(const DataSource& data, const DataSource& held_out,
                  const std::vector<int64_t>& vocabulary, uint64_t seed) {
  Probes probes;
  probes.repeated_random = RepeatedRandomTokens(kProbeRows, data.context() / 2, vocabulary, seed);
  probes.held_out = held_out.EvalBatch(seed, 0, kHeldOutRows);
  probes.plain_text = data.EvalBatch(seed, 0, kHeldOutRows);
  return probes;
}

absl::StatusOr<TrainingPoint> Measure(const ResidualModel& model, const Probes& probes) {
  TrainingPoint point;
  RESIDUAL_ASSIGN_OR_RETURN(const HeadScores scores, ScoreHeads(model, probes.repeated_random));
  point.best_induction = Best(scores.induction).score;
  point.best_previous_token = Best(scores.previous_token).score;
  RESIDUAL_ASSIGN_OR_RETURN(point.icl_score, HeldOut(model, probes.held_out).Icl({}));
  return point;
}

absl::StatusOr<std::vector<TrainingPoint>> TrainAndMeasure(
    Trainer& trainer, const Probes& probes, const TrainPlan& plan,
    const std::function<bool(const StepResult&, const TrainingPoint&)>& on_step) {
  std::vector<TrainingPoint> points;
  std::vector<double> losses;  // since the last point
  int64_t tokens = 0;
  auto measure = [&](int64_t step) -> absl::Status {
    RESIDUAL_ASSIGN_OR_RETURN(TrainingPoint point, Measure(trainer.model(), probes));
    point.step = step;
    point.tokens = tokens;
    point.loss = Mean(losses);
    losses.clear();
    points.push_back(point);
    return absl::OkStatus();
  };
  auto plateau = [&] {
    const int64_t before = static_cast<int64_t>(points.size()) - plan.patience;
    if (plan.patience <= 0 || before < 1 || points.back().best_induction < plan.formed) {
      return false;
    }
    auto best = [&](int64_t begin, int64_t end) {
      double score = 0;
      for (int64_t i = begin; i < end; ++i) score = std::max(score, points[i].best_induction);
      return score;
    };
    return best(before, points.size()) < best(0, before) + plan.tolerance;
  };
  RESIDUAL_RETURN_IF_ERROR(measure(0));
  for (int64_t step = 1; step <= plan.max_steps; ++step) {
    RESIDUAL_ASSIGN_OR_RETURN(const StepResult result, trainer.Step());
    tokens += result.tokens;
    losses.push_back(result.loss);
    if (step % plan.every == 0 || step == plan.max_steps) RESIDUAL_RETURN_IF_ERROR(measure(step));
    if (on_step && !on_step(result, points.back())) {
      return absl::CancelledError("training was stopped");
    }
    if (step % plan.every == 0 && plateau()) break;
  }
  return points;
}

PhaseChange FindPhaseChange(const std::vector<TrainingPoint>& points) {
  PhaseChange change;
  if (points.empty()) return change;
  double low = points[0].best_induction, high = low;
  for (const TrainingPoint& point : points) {
    low = std::min(low, point.best_induction);
    high = std::max(high, point.best_induction);
  }
  if (high - low < 0.1) return change;
  while (points[change.first].best_induction < low + 0.1 * (high - low)) ++change.first;
  change.last = change.first;
  while (points[change.last].best_induction < low + 0.9 * (high - low)) ++change.last;
  if (change.first > 0) --change.first;
  return change;
}

std::vector<HeadIndex> HeadsAbove(const HeadTable& scores, double floor) {
  const double threshold = std::max(floor, Best(scores).score / 2);
  std::vector<HeadIndex> heads;
  for (size_t layer = 0; layer < scores.size(); ++layer) {
    for (size_t head = 0; head < scores[layer].size(); ++head) {
      if (scores[layer][head] >= threshold) {
        heads.push_back({static_cast<int>(layer), static_cast<int>(head)});
      }
    }
  }
  std::stable_sort(heads.begin(), heads.end(), [&](const HeadIndex& a, const HeadIndex& b) {
    return Score(scores, a) > Score(scores, b);
  });
  return heads;
}

absl::StatusOr<AblationStudy> StudyAblations(const ResidualModel& model, const HeadScores& scores,
                                             const Probes& probes, uint64_t seed) {
  AblationStudy study;
  study.best_induction = Best(scores.induction).score;
  study.induction_heads = HeadsAbove(scores.induction, kHeadFloor);
  const int highest = study.induction_heads.empty() ? 0 : study.induction_heads[0].layer;
  HeadTable below(scores.previous_token.begin(), scores.previous_token.begin() + highest);
  study.previous_token_heads = HeadsAbove(below, kHeadFloor);

  std::vector<HeadIndex> others, others_below;
  for (int layer = 0; layer < static_cast<int>(scores.induction.size()); ++layer) {
    for (int head = 0; head < static_cast<int>(scores.induction[layer].size()); ++head) {
      const HeadIndex index{layer, head};
      if (Contains(study.induction_heads, index) || Contains(study.previous_token_heads, index)) {
        continue;
      }
      others.push_back(index);
      if (layer < highest) others_below.push_back(index);
    }
  }
  study.random_sets = RandomHeadSets(others, std::min(study.induction_heads.size(), others.size()),
                                     kRandomSets, seed);

  const HeldOut held_out(model, probes.held_out);
  RESIDUAL_ASSIGN_OR_RETURN(study.loss_by_position, held_out.Losses({}));
  study.icl_score = InContextScore(study.loss_by_position);
  RESIDUAL_ASSIGN_OR_RETURN(study.loss_without_induction, held_out.Losses(study.induction_heads));
  for (const std::vector<HeadIndex>& set : study.random_sets) {
    RESIDUAL_ASSIGN_OR_RETURN(const std::vector<double> losses, held_out.Losses(set));
    study.loss_without_random.resize(losses.size());
    for (size_t i = 0; i < losses.size(); ++i) {
      study.loss_without_random[i] += losses[i] / static_cast<double>(study.random_sets.size());
    }
  }
  RESIDUAL_ASSIGN_OR_RETURN(study.full, KnockOutWith(held_out, study, {}));
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<Tensor> patterns,
                            ReadPatterns(model, probes.held_out.tokens));
  RESIDUAL_ASSIGN_OR_RETURN(study.frozen, KnockOutWith(held_out, study, patterns));
  for (int layer = 0; layer < static_cast<int>(scores.induction.size()); ++layer) {
    auto& row = study.without_each.emplace_back();
    for (int head = 0; head < static_cast<int>(scores.induction[layer].size()); ++head) {
      RESIDUAL_ASSIGN_OR_RETURN(const double icl, held_out.Icl({{layer, head}}));
      row.push_back(icl);
    }
  }

  auto best_without = [&](const std::vector<HeadIndex>& heads) -> absl::StatusOr<double> {
    RESIDUAL_ASSIGN_OR_RETURN(const HeadScores without,
                              ScoreHeads(model, probes.repeated_random, heads));
    return Best(without.induction).score;
  };
  RESIDUAL_ASSIGN_OR_RETURN(study.best_induction_without_previous,
                            best_without(study.previous_token_heads));
  std::vector<double> without_others;
  for (const std::vector<HeadIndex>& set :
       RandomHeadSets(others_below, study.previous_token_heads.size(), kRandomSets, seed)) {
    RESIDUAL_ASSIGN_OR_RETURN(const double best, best_without(set));
    without_others.push_back(best);
  }
  study.best_induction_without_others = Mean(without_others);
  return study;
}

absl::StatusOr<CircuitStudy> StudyCircuits(const ResidualModel& model, HeadIndex earlier,
                                           HeadIndex later) {
  RESIDUAL_ASSIGN_OR_RETURN(const HeadCircuits circuits, ReadHeadCircuits(model));
  CircuitStudy study;
  study.ov_copying = OvCopyingScores(circuits);
  study.k_composition = Compositions(circuits, CompositionKind::kK);
  study.k_baseline = CompositionByChance(model.d_model());
  if (later.layer >= 0) {
    RESIDUAL_RETURN_IF_ERROR(CheckHeads(model, {later}));
    study.ov_eigenvalues = OvEigenvalues(circuits, later);
    DivideByLargest(study.ov_eigenvalues);
  }
  if (earlier.layer >= 0 && earlier.layer < later.layer) {
    RESIDUAL_RETURN_IF_ERROR(CheckHeads(model, {earlier}));
    study.qk_eigenvalues = KCompositionEigenvalues(circuits, earlier, later);
    study.qk_matching = CopyingScore(study.qk_eigenvalues);
    DivideByLargest(study.qk_eigenvalues);
  }
  return study;
}

absl::StatusOr<Passage> FindPassage(const ResidualModel& model, const Tensor& rows,
                                    HeadIndex head) {
  RESIDUAL_RETURN_IF_ERROR(CheckHeads(model, {head}));
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<Tensor> patterns, ReadPatterns(model, rows));
  const int64_t batch = rows.dim(0), n = rows.dim(1);
  const Tensor ids = ConvertTo(rows, kI64);
  Passage passage;
  double best = -1;
  int64_t best_row = 0;
  for (int64_t row = 0; row < batch; ++row) {
    const std::vector<double> weights = patterns[head.layer].Row(row).Row(head.head).ToDoubles();
    const int64_t* tokens = ids.data<int64_t>() + row * n;
    for (int64_t query = n / 2; query < n; ++query) {
      const auto look = weights.begin() + query * n;
      const int64_t key = std::max_element(look, look + query + 1) - look;
      int64_t equal = 0;  // tokens before the key that are those up to the query
      while (equal < std::min<int64_t>(4, key) &&
             tokens[key - 1 - equal] == tokens[query - equal]) {
        ++equal;
      }
      if (equal + look[key] > best) {
        best = equal + look[key];
        best_row = row;
        passage.selected = query;
      }
    }
  }
  const int64_t* tokens = ids.data<int64_t>() + best_row * n;
  passage.tokens.assign(tokens, tokens + n);
  for (const Tensor& pattern : patterns) {
    passage.patterns.push_back(pattern.defined() ? pattern.Row(best_row) : Tensor());
  }
  return passage;
}

}  // namespace residual
