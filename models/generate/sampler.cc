#include "models/generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "ops/elementwise/elementwise_kernels.h"
#include "tensor/base/check.h"
#include "tensor/base/random.h"

namespace residual {
namespace {

struct Candidate {
  int64_t id;
  double score, weight;  // weight: the probability, but for a common factor
};

// exp of argument(i) for i in [0, n), in vectors, a block at a time: calls take(begin, block).
template <class Argument, class Take>
void ForExponentials(size_t n, const Argument& argument, const Take& take) {
  constexpr size_t kBlock = 512;
  float block[kBlock];
  for (size_t begin = 0; begin < n; begin += kBlock) {
    const size_t count = std::min(kBlock, n - begin);
    for (size_t i = 0; i < count; ++i) block[i] = argument(begin + i);
    UnaryCpu(UnaryOp::kExp, block, block, static_cast<int64_t>(count));
    take(begin, absl::Span<const float>(block, count));
  }
}

// The largest that is no NaN, or the first; by so many at a time as the compiler has lanes for.
float Largest(absl::Span<const float> x) {
  constexpr size_t kLanes = 16;
  float most[kLanes];
  std::fill(most, most + kLanes, x[0]);
  size_t i = 0;
  for (; i + kLanes <= x.size(); i += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) most[j] = x[i + j] > most[j] ? x[i + j] : most[j];
  }
  for (; i < x.size(); ++i) most[0] = x[i] > most[0] ? x[i] : most[0];
  for (size_t j = 1; j < kLanes; ++j) most[0] = most[j] > most[0] ? most[j] : most[0];
  return most[0];
}

// The more probable first; of equals the smaller id.
bool Before(const Candidate& a, const Candidate& b) {
  return a.score != b.score ? a.score > b.score : a.id < b.id;
}

double TotalWeight(const std::vector<Candidate>& candidates) {
  double total = 0;
  for (const Candidate& c : candidates) total += c.weight;
  return total;
}

// Ties with the k-th stay, as in Hugging Face: they are not less probable than it.
void KeepTopK(int64_t k, std::vector<Candidate>* candidates) {
  if (k == 0 || k >= static_cast<int64_t>(candidates->size())) return;
  std::nth_element(candidates->begin(), candidates->begin() + (k - 1), candidates->end(), Before);
  const double kth = (*candidates)[k - 1].score;
  candidates->erase(std::remove_if(candidates->begin() + k, candidates->end(),
                                   [&](const Candidate& c) { return c.score < kth; }),
                    candidates->end());
  std::sort(candidates->begin(), candidates->end(), Before);  // an order that is the same anywhere
}

// From a heap: a vocabulary is large and the tokens that make up the mass are few.
void KeepTopP(double p, std::vector<Candidate>* candidates) {
  if (p >= 1) return;
  const double wanted = p * TotalWeight(*candidates);
  auto after = [](const Candidate& a, const Candidate& b) { return Before(b, a); };
  std::make_heap(candidates->begin(), candidates->end(), after);
  std::vector<Candidate> kept;
  double mass = 0;
  while (!candidates->empty() && (kept.empty() || mass < wanted)) {
    std::pop_heap(candidates->begin(), candidates->end(), after);
    kept.push_back(candidates->back());
    candidates->pop_back();
    mass += kept.back().weight;
  }
  *candidates = std::move(kept);
}

// Weights are relative to the largest, which every other step keeps.
void KeepMinP(double min_p, std::vector<Candidate>* candidates) {
  candidates->erase(std::remove_if(candidates->begin(), candidates->end(),
                                   [&](const Candidate& c) { return c.weight < min_p; }),
                    candidates->end());
}

}  // namespace

absl::Status ValidateSampler(const SamplerOptions& o) {
  auto bad = [](const char* field, double found, const char* expected) {
    return absl::InvalidArgumentError(absl::StrCat(field, " is ", found, ", expected ", expected));
  };
  if (!(o.temperature >= 0) || !std::isfinite(o.temperature)) {
    return bad("temperature", o.temperature, "a number >= 0 (0: greedy)");
  }
  if (o.top_k < 0) return bad("top_k", static_cast<double>(o.top_k), "an integer >= 0 (0: all)");
  if (!(o.top_p > 0 && o.top_p <= 1)) return bad("top_p", o.top_p, "a number in (0, 1]");
  if (!(o.min_p >= 0 && o.min_p <= 1)) return bad("min_p", o.min_p, "a number in [0, 1]");
  if (!(o.repetition_penalty > 0) || !std::isfinite(o.repetition_penalty)) {
    return bad("repetition_penalty", o.repetition_penalty, "a number > 0 (1: none)");
  }
  return absl::OkStatus();
}

double LogSumExp(absl::Span<const float> logits) {
  const float largest = Largest(logits);
  if (!std::isfinite(largest)) return largest;
  constexpr size_t kSums = 8;  // side by side: an addition waits for the one before
  double sums[kSums] = {};
  ForExponentials(
      logits.size(), [&](size_t i) { return logits[i] - largest; },
      [&](size_t, absl::Span<const float> exponentials) {
        for (size_t i = 0; i < exponentials.size(); ++i) sums[i % kSums] += exponentials[i];
      });
  return largest + std::log(std::accumulate(sums, sums + kSums, 0.0));
}

void PenalizeRepetition(absl::Span<const int64_t> history, double penalty,
                        absl::Span<double> scores) {
  if (penalty == 1) return;
  const absl::flat_hash_set<int64_t> seen(history.begin(), history.end());
  for (const int64_t token : seen) {
    RESIDUAL_CHECK(token >= 0 && token < static_cast<int64_t>(scores.size())) << token;
    double& score = scores[token];
    score = score > 0 ? score / penalty : score * penalty;
  }
}

Sampled SampleToken(absl::Span<const float> logits, absl::Span<const int64_t> history,
                    const SamplerOptions& options, int64_t row, int64_t index) {
  RESIDUAL_CHECK(!logits.empty());
  const double log_sum = LogSumExp(logits);
  auto chosen = [&](int64_t token) { return Sampled{token, logits[token] - log_sum}; };
  if (options.temperature == 0 && options.repetition_penalty == 1) {
    const auto best = std::find(logits.begin(), logits.end(), Largest(logits));
    return chosen(best == logits.end() ? 0 : best - logits.begin());  // 0: nothing but NaN
  }
  std::vector<double> scores(logits.begin(), logits.end());
  PenalizeRepetition(history, options.repetition_penalty, absl::MakeSpan(scores));
  const int64_t best = std::max_element(scores.begin(), scores.end()) - scores.begin();
  if (options.temperature == 0) return chosen(best);

  std::vector<Candidate> candidates;
  candidates.reserve(scores.size());
  const double most = scores[best];
  ForExponentials(
      scores.size(),
      [&](size_t i) { return static_cast<float>((scores[i] - most) / options.temperature); },
      [&](size_t begin, absl::Span<const float> weights) {
        for (size_t i = 0; i < weights.size(); ++i) {
          if (!(weights[i] > 0)) continue;
          candidates.push_back({static_cast<int64_t>(begin + i), scores[begin + i], weights[i]});
        }
      });
  if (candidates.empty()) return chosen(best);  // no token has a probability
  KeepTopK(options.top_k, &candidates);
  KeepTopP(options.top_p, &candidates);
  KeepMinP(options.min_p, &candidates);
  const Philox random(options.seed, RandomStream("sample", static_cast<uint64_t>(row)));
  double u = random.UniformDouble(static_cast<uint64_t>(index)) * TotalWeight(candidates);
  for (const Candidate& c : candidates) {
    u -= c.weight;
    if (u < 0) return chosen(c.id);
  }
  return chosen(candidates.back().id);  // rounding left a crumb
}

}  // namespace residual
