#include "interp/induction/study.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <numeric>
#include <utility>

#include "tensor/base/status_macros.h"

namespace residual {
namespace {

constexpr int64_t kProbeRows = 16;  // of repeated random tokens
constexpr int64_t kHeldOutRows = 64;
constexpr size_t kRandomSets = 12;
constexpr double kHeadFloor = 0.1;  // below it nothing is called a head of that kind

double Mean(const std::vector<double>& values) {
  return values.empty() ? 0
                        : std::accumulate(values.begin(), values.end(), 0.0) /
                              static_cast<double>(values.size());
}

absl::StatusOr<double> IclScore(const ResidualModel& model, const TrainingBatch& batch,
                                const std::vector<HeadIndex>& ablated) {
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<double> losses,
                            LossByPosition(model, batch.tokens, batch.targets, ablated));
  return InContextScore(losses);
}

bool Contains(const std::vector<HeadIndex>& heads, const HeadIndex& head) {
  return std::find(heads.begin(), heads.end(), head) != heads.end();
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
  RESIDUAL_ASSIGN_OR_RETURN(point.icl_score, IclScore(model, probes.held_out, {}));
  return point;
}

absl::StatusOr<std::vector<TrainingPoint>> TrainAndMeasure(
    Trainer& trainer, const Probes& probes, int64_t steps, int64_t every,
    const std::function<bool(const StepResult&)>& on_step) {
  std::vector<TrainingPoint> points;
  std::deque<double> recent;
  int64_t tokens = 0;
  for (int64_t step = 0; step <= steps; ++step) {
    const bool last = step == steps;
    if (step > 0 && (last || step % every == 0)) {
      RESIDUAL_ASSIGN_OR_RETURN(TrainingPoint point, Measure(trainer.model(), probes));
      point.step = step;
      point.tokens = tokens;
      point.loss = Mean({recent.begin(), recent.end()});
      points.push_back(point);
    }
    if (last) break;
    RESIDUAL_ASSIGN_OR_RETURN(const StepResult result, trainer.Step());
    tokens += result.tokens;
    recent.push_back(result.loss);
    if (static_cast<int64_t>(recent.size()) > every) recent.pop_front();
    if (on_step && !on_step(result)) return absl::CancelledError("training was stopped");
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
  return heads;
}

absl::StatusOr<AblationStudy> StudyAblations(const ResidualModel& model, const HeadScores& scores,
                                             const Probes& probes, uint64_t seed) {
  AblationStudy study;
  study.induction_heads = HeadsAbove(scores.induction, kHeadFloor);
  // The previous-token heads below the induction heads: what these compose with.
  for (const HeadIndex& head : HeadsAbove(scores.previous_token, kHeadFloor)) {
    if (!Contains(study.induction_heads, head)) study.previous_token_heads.push_back(head);
  }
  RESIDUAL_ASSIGN_OR_RETURN(study.loss_by_position,
                            LossByPosition(model, probes.held_out.tokens, probes.held_out.targets));
  study.icl_score = InContextScore(study.loss_by_position);
  RESIDUAL_ASSIGN_OR_RETURN(study.loss_without_induction,
                            LossByPosition(model, probes.held_out.tokens, probes.held_out.targets,
                                           study.induction_heads));
  study.icl_without_induction = InContextScore(study.loss_without_induction);

  std::vector<HeadIndex> others;
  for (int layer = 0; layer < static_cast<int>(scores.induction.size()); ++layer) {
    auto& row = study.icl_without_each.emplace_back();
    for (int head = 0; head < static_cast<int>(scores.induction[layer].size()); ++head) {
      const HeadIndex index{layer, head};
      RESIDUAL_ASSIGN_OR_RETURN(const double icl, IclScore(model, probes.held_out, {index}));
      row.push_back(icl);
      if (!Contains(study.induction_heads, index) && !Contains(study.previous_token_heads, index)) {
        others.push_back(index);
      }
    }
  }
  double random_effect = 0;
  for (const std::vector<HeadIndex>& set :
       RandomHeadSets(others, study.induction_heads.size(), kRandomSets, seed)) {
    RESIDUAL_ASSIGN_OR_RETURN(const double icl, IclScore(model, probes.held_out, set));
    study.icl_without_random.push_back(icl);
    random_effect += icl - study.icl_score;
  }
  if (!study.icl_without_random.empty()) {
    random_effect /= static_cast<double>(study.icl_without_random.size());
  }
  study.random_mean = study.icl_score + random_effect;
  study.ratio = (study.icl_without_induction - study.icl_score) /
                std::max({std::abs(random_effect), 0.01 * std::abs(study.icl_score), 1e-9});

  study.best_induction = Best(scores.induction).score;
  RESIDUAL_ASSIGN_OR_RETURN(const HeadScores without,
                            ScoreHeads(model, probes.repeated_random, study.previous_token_heads));
  study.best_induction_without_previous = Best(without.induction).score;
  return study;
}

}  // namespace residual
