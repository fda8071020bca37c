#include "models/generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "tensor/base/check.h"
#include "tensor/base/random.h"

namespace residual {
namespace {

constexpr double kNegativeInfinity = -std::numeric_limits<double>::infinity();

// log sum exp of the logits.
double LogSumExp(absl::Span<const float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float x : logits) sum += std::exp(x - largest);
  return largest + std::log(sum);
}

// Probabilities of scores sorted from the largest down.
std::vector<double> Probabilities(const std::vector<double>& sorted) {
  std::vector<double> p(sorted.size());
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) sum += p[i] = std::exp(sorted[i] - sorted[0]);
  for (double& x : p) x /= sum;
  return p;
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

Sampled SampleToken(absl::Span<const float> logits, absl::Span<const int64_t> history,
                    const SamplerOptions& options, int64_t row, int64_t index) {
  RESIDUAL_CHECK(!logits.empty());
  const double log_sum = LogSumExp(logits);
  std::vector<double> scores(logits.begin(), logits.end());
  if (options.repetition_penalty != 1) {
    const absl::flat_hash_set<int64_t> seen(history.begin(), history.end());
    for (int64_t token : seen) {
      double& score = scores[token];
      score = score > 0 ? score / options.repetition_penalty : score * options.repetition_penalty;
    }
  }
  auto chosen = [&](int64_t token) { return Sampled{token, logits[token] - log_sum}; };
  if (options.temperature == 0) {
    return chosen(std::max_element(scores.begin(), scores.end()) - scores.begin());
  }

  // The candidates, from the most probable down; of equals the smaller id first.
  std::vector<int64_t> ids(scores.size());
  std::iota(ids.begin(), ids.end(), 0);
  auto before = [&](int64_t a, int64_t b) {
    return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
  };
  if (options.top_k > 0 && options.top_k < static_cast<int64_t>(ids.size())) {
    std::partial_sort(ids.begin(), ids.begin() + options.top_k, ids.end(), before);
    // Ties with the k-th stay, as in Hugging Face: they are not less probable than it.
    const double kth = scores[ids[options.top_k - 1]];
    ids.erase(std::remove_if(ids.begin(), ids.end(), [&](int64_t id) { return scores[id] < kth; }),
              ids.end());
  }
  std::sort(ids.begin(), ids.end(), before);
  while (ids.size() > 1 && scores[ids.back()] == kNegativeInfinity) ids.pop_back();

  auto sorted_scores = [&] {
    std::vector<double> sorted;
    for (int64_t id : ids) sorted.push_back(scores[id] / options.temperature);
    return sorted;
  };
  if (options.top_p < 1) {
    const std::vector<double> p = Probabilities(sorted_scores());
    double mass = 0;
    size_t kept = 0;
    while (kept < p.size() && mass < options.top_p) mass += p[kept++];
    ids.resize(std::max<size_t>(1, kept));
  }
  if (options.min_p > 0) {
    const std::vector<double> p = Probabilities(sorted_scores());
    size_t kept = 1;
    while (kept < p.size() && p[kept] >= options.min_p * p[0]) ++kept;
    ids.resize(kept);
  }
  const std::vector<double> p = Probabilities(sorted_scores());
  const Philox random(options.seed, RandomStream("sample", static_cast<uint64_t>(row)));
  double u = random.UniformDouble(static_cast<uint64_t>(index));
  for (size_t i = 0; i < p.size(); ++i) {
    u -= p[i];
    if (u < 0) return chosen(ids[i]);
  }
  return chosen(ids.back());  // rounding left a crumb
}

}  // namespace residual
