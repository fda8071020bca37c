#include "interp/framework/measures.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "interp/circuits/copying.h"
#include "interp/circuits/head_circuits.h"
#include "interp/expansion/path_expansion.h"
#include "interp/heads/pattern_statistics.h"
#include "interp/heads/value_weighted.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

constexpr int64_t kExpandedRows = 2;
constexpr int64_t kSkipTrigrams = 12;  // shown of each head
constexpr double kNearHead = 0.5;

// rows of n tokens of the vocabulary, three times over.
Tensor ThreeTimes(int64_t batch, int64_t n, const std::vector<int64_t>& vocabulary, uint64_t seed) {
  const Tensor twice = RepeatedRandomTokens(batch, n, vocabulary, seed);
  Tensor tokens = Tensor::Uninitialized({batch, 3 * n}, kI64);
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t i = 0; i < 3 * n; ++i) {
      tokens.mutable_data<int64_t>()[b * 3 * n + i] = twice.data<int64_t>()[b * 2 * n + i % n];
    }
  }
  return tokens;
}

absl::Status MeasureCrossed(const ResidualModel& model, const HeadCircuits& circuits,
                            const BigramTable& bigrams, const Tensor& rows, int64_t per_head,
                            FrameworkMeasures& m) {
  for (int head = 0; head < static_cast<int>(circuits.heads[0].size()); ++head) {
    // What a head that looks at the token itself, or the one before, does with distant ones is
    // never asked of it.
    if (m.looks_near[head] >= kNearHead) continue;
    for (const CrossedTrigrams& pair :
         FindCrossed(circuits, circuits.heads[0][head], bigrams, per_head)) {
      CrossedEffect effect;
      effect.head = head;
      effect.pair = pair;
      const int64_t outs[2] = {pair.first.out, pair.second.out};
      const auto measure = [&](int64_t destination, int crossed, double* after,
                               double* rank) -> absl::Status {
        std::vector<double> raised(model.d_vocab());
        const int64_t n = rows.dim(1);
        const std::vector<int64_t> distances = {n / 12, n / 6, n / 3};
        for (const int64_t distance : distances) {
          RESIDUAL_ASSIGN_OR_RETURN(
              const std::vector<double> one,
              RaisedBySource(model, rows, pair.first.source, destination, distance));
          for (size_t i = 0; i < one.size(); ++i) raised[i] += one[i] / distances.size();
        }
        for (int i = 0; i < 2; ++i) after[i] = raised[outs[i]];
        for (const double value : raised) {
          *rank += (value < raised[outs[crossed]]) / static_cast<double>(raised.size());
        }
        return absl::OkStatus();
      };
      RESIDUAL_RETURN_IF_ERROR(
          measure(pair.first.destination, 1, effect.after_first, &effect.rank_after_first));
      RESIDUAL_RETURN_IF_ERROR(
          measure(pair.second.destination, 0, effect.after_second, &effect.rank_after_second));
      m.crossed.push_back(effect);
    }
  }
  return absl::OkStatus();
}

// What both have: bigrams of the direct path, and whether paths add up.
absl::Status MeasurePaths(const ResidualModel& model, const BigramTable& bigrams,
                          const Tensor& rows, FrameworkMeasures& m) {
  const int which = model.n_layers() - 1;
  RESIDUAL_ASSIGN_OR_RETURN(const PathExpansion expansion,
                            ExpandPaths(model, rows.Rows(0, std::min(kExpandedRows, rows.dim(0))),
                                        std::numeric_limits<int64_t>::max()));
  m.expansion_error[which] = expansion.error;
  m.paths = static_cast<int64_t>(expansion.terms.size());
  m.direct_share[which] = CompareWithBigrams(DirectPathLogits(model), bigrams).share();
  return absl::OkStatus();
}

}  // namespace

absl::Status MeasureOneLayer(
    const ResidualModel& model,
    const std::function<std::unique_ptr<ResidualModel>(int64_t i)>& untrained, int64_t n_untrained,
    const BigramTable& bigrams, const Tensor& rows, int64_t crossed_per_head,
    FrameworkMeasures& m) {
  RESIDUAL_RETURN_IF_ERROR(MeasurePaths(model, bigrams, rows, m));
  RESIDUAL_ASSIGN_OR_RETURN(const HeadCircuits circuits, ReadHeadCircuits(model, false));
  m.copying = OvCopyingScores(circuits)[0];
  for (int head = 0; head < static_cast<int>(m.copying.size()); ++head) {
    m.eigenvalues.push_back(OvEigenvalues(circuits, {0, head}));
    m.skip_trigrams.push_back(TopSkipTrigrams(circuits, circuits.heads[0][head], kSkipTrigrams));
  }
  for (int64_t i = 0; i < n_untrained; ++i) {
    const std::unique_ptr<ResidualModel> random = untrained(i);
    RESIDUAL_ASSIGN_OR_RETURN(const HeadCircuits start, ReadHeadCircuits(*random, false));
    const HeadTable scores = OvCopyingScores(start);
    m.random_copying.insert(m.random_copying.end(), scores[0].begin(), scores[0].end());
    if (i == 0) m.random_eigenvalues = OvEigenvalues(start, {0, 0});
  }
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<Tensor> patterns, ReadPatterns(model, rows));
  m.looks_near = MeasurePatterns(patterns).current_token[0];
  for (size_t head = 0; head < m.looks_near.size(); ++head) {
    double before = 0;
    const int64_t batch = rows.dim(0), pos = rows.dim(1);
    for (int64_t b = 0; b < batch; ++b) {
      const std::vector<double> p = patterns[0].Row(b).Row(static_cast<int64_t>(head)).ToDoubles();
      for (int64_t i = 1; i < pos; ++i) before += p[i * pos + i - 1] / ((pos - 1) * batch);
    }
    m.looks_near[head] += before;
  }
  return MeasureCrossed(model, circuits, bigrams, rows, crossed_per_head, m);
}

absl::Status MeasureTwoLayers(const ResidualModel& model, const ResidualModel& untrained,
                              const BigramTable& bigrams, const TrainingBatch& held_out,
                              const Tensor& rows, const std::vector<int64_t>& occurring,
                              FrameworkMeasures& m) {
  RESIDUAL_RETURN_IF_ERROR(MeasurePaths(model, bigrams, rows, m));
  RESIDUAL_ASSIGN_OR_RETURN(const HeadCircuits start, ReadHeadCircuits(untrained, false));
  m.random_k = Largest(Compositions(start, CompositionKind::kK));
  RESIDUAL_ASSIGN_OR_RETURN(const HeadCircuits circuits, ReadHeadCircuits(model, false));
  m.q = ComposeHeads(circuits, CompositionKind::kQ);
  m.k = ComposeHeads(circuits, CompositionKind::kK);
  m.v = ComposeHeads(circuits, CompositionKind::kV);
  const int64_t batch = rows.dim(0), n = rows.dim(1);
  const Tensor twice = RepeatedRandomTokens(batch, n / 2, occurring, m.seed);
  RESIDUAL_ASSIGN_OR_RETURN(m.scores, ScoreHeads(model, twice));
  const Tensor thrice = ThreeTimes(batch, n / 3, occurring, m.seed);
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<Tensor> weighted,
                            ReadValueWeightedPatterns(model, thrice));
  const HeadTable prefix = PrefixMatching(weighted, thrice);
  m.induction_heads = HeadsAbove(prefix, kHeadFloor);
  const HeadTable ov = OvCopyingScores(circuits);
  for (int head = 0; head < static_cast<int>(circuits.heads[1].size()); ++head) {
    InductionCorner corner;
    corner.head = {1, head};
    corner.prefix = prefix[1][head];
    corner.ov = ov[1][head];
    double most = -1;
    for (int below = 0; below < static_cast<int>(circuits.heads[0].size()); ++below) {
      const double score = m.k.score[0][below][1][head];
      if (score > most) {
        most = score;
        corner.writer = {0, below};
      }
    }
    corner.qk = CopyingScore(KCompositionEigenvalues(circuits, corner.writer, corner.head));
    m.corner.push_back(corner);
  }
  RESIDUAL_ASSIGN_OR_RETURN(m.terms, WeighTerms(model, held_out.tokens, held_out.targets));
  const HeadIndex best = Best(prefix).head;
  RESIDUAL_ASSIGN_OR_RETURN(m.repeated, FindPassage(model, thrice, best));
  RESIDUAL_ASSIGN_OR_RETURN(m.text, FindPassage(model, rows, best));
  return absl::OkStatus();
}

double CopyingThreshold(const FrameworkMeasures& m) {
  std::vector<double> random = m.random_copying;
  std::sort(random.begin(), random.end());
  return random[static_cast<size_t>(0.975 * static_cast<double>(random.size() - 1))];
}

double CopyingHeads(const FrameworkMeasures& m) {
  const double threshold = CopyingThreshold(m);
  double heads = 0;
  for (const double score : m.copying) heads += score > threshold;
  return heads / static_cast<double>(m.copying.size());
}

double CrossedRaised(const FrameworkMeasures& m) {
  double raised = 0;
  for (const CrossedEffect& effect : m.crossed) {
    raised += (effect.after_first[1] > 0) + (effect.after_second[0] > 0);
  }
  return m.crossed.empty() ? 0 : raised / static_cast<double>(2 * m.crossed.size());
}

double Largest(const CompositionTable& table) {
  double largest = 0;
  for (const auto& heads : table) {
    for (const HeadTable& to : heads) largest = std::max(largest, Best(to).score);
  }
  return largest;
}

double KOverOthers(const FrameworkMeasures& m, int64_t d_model) {
  const double chance = CompositionByChance(d_model);
  const double others = std::max(Largest(m.q.score), Largest(m.v.score)) - chance;
  // Where neither is above chance at all, a tenth of it stands for how little that is.
  return (Largest(m.k.score) - chance) / std::max(others, 0.1 * chance);
}

double KWriterLooksBack(const FrameworkMeasures& m) {
  size_t writer = 0;
  double most = -1;
  for (size_t below = 0; below < m.k.score[0].size(); ++below) {
    const double score = Best(m.k.score[0][below]).score;
    if (score > most) {
      most = score;
      writer = below;
    }
  }
  const std::vector<double>& back = m.scores.previous_token[0];
  return back[writer] / *std::max_element(back.begin(), back.end());
}

namespace {

bool IsInduction(const FrameworkMeasures& m, const HeadIndex& head) {
  return std::find(m.induction_heads.begin(), m.induction_heads.end(), head) !=
         m.induction_heads.end();
}

}  // namespace

double BestPrefix(const FrameworkMeasures& m) {
  double best = 0;
  for (const InductionCorner& corner : m.corner) best = std::max(best, corner.prefix);
  return best;
}

double LeastCorner(const FrameworkMeasures& m) {
  if (m.induction_heads.empty()) return -1;
  double least = 1;
  for (const InductionCorner& corner : m.corner) {
    if (IsInduction(m, corner.head)) least = std::min({least, corner.ov, corner.qk});
  }
  return least;
}

double LargestOutsideCorner(const FrameworkMeasures& m) {
  double largest = -1;
  for (const InductionCorner& corner : m.corner) {
    if (IsInduction(m, corner.head)) continue;
    largest = std::max(largest, std::min(corner.ov, corner.qk));
  }
  return largest;
}

double VirtualShare(const FrameworkMeasures& m) {
  return m.terms.virtual_heads() / (m.terms.single_heads() + m.terms.virtual_heads());
}

}  // namespace residual
