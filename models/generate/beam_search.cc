#include "models/generate/beam_search.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/generate/prompts.h"
#include "models/generate/sampler.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// A beam with one more token.
struct Candidate {
  double total;  // of the log-probabilities, the repetition penalty included
  int64_t beam, token;
  double logprob;  // of the token
};

bool Before(const Candidate& a, const Candidate& b) {
  if (a.total != b.total) return a.total > b.total;
  return a.beam != b.beam ? a.beam < b.beam : a.token < b.token;
}

class Search {
 public:
  Search(const std::vector<int64_t>& prompt, const BeamSearchOptions& options,
         int64_t max_new_tokens)
      : prompt_(prompt), options_(options), max_new_tokens_(max_new_tokens), open_(1) {}

  const std::vector<Beam>& open() const { return open_; }
  std::vector<Beam> TakeFinished() { return std::move(finished_); }

  // Takes the logits [open beams, d_vocab] after each open beam. Returns the parent of each beam
  // that is open now, none when the search has ended.
  absl::StatusOr<std::vector<int64_t>> Advance(const Tensor& logits) {
    RESIDUAL_ASSIGN_OR_RETURN(const std::vector<Candidate> best, BestCandidates(logits));
    ++length_;
    std::vector<Beam> open;
    std::vector<int64_t> parents;
    for (size_t i = 0; i < best.size(); ++i) {
      if (Ends(best[i].token)) {
        // Candidates past the first num_beams only keep the search supplied with open beams.
        if (i < static_cast<size_t>(options_.num_beams)) Finish(Extended(best[i]));
      } else if (open.size() < static_cast<size_t>(options_.num_beams)) {
        open.push_back(Extended(best[i]));
        parents.push_back(best[i].beam);
      }
    }
    open_ = std::move(open);
    if (open_.empty() || !MayImprove()) parents.clear();
    return parents;
  }

 private:
  bool Ends(int64_t token) const {
    return length_ == max_new_tokens_ ||
           std::find(options_.stop_tokens.begin(), options_.stop_tokens.end(), token) !=
               options_.stop_tokens.end();
  }

  // Enough that num_beams are open even if every beam has a candidate for each stop token.
  absl::StatusOr<std::vector<Candidate>> BestCandidates(const Tensor& logits) const {
    std::vector<Candidate> candidates;
    candidates.reserve(logits.elements());
    for (size_t beam = 0; beam < open_.size(); ++beam) {
      const absl::Span<const float> row = logits.Row(beam).span<float>();
      const double log_sum = LogSumExp(row);
      if (!std::isfinite(log_sum)) {
        return absl::DataLossError(absl::StrCat("the logits for new token ", length_, " of beam ",
                                                beam, " hold a NaN or only -inf"));
      }
      std::vector<double> scores(row.begin(), row.end());
      for (double& score : scores) score -= log_sum;
      std::vector<int64_t> history = prompt_;
      history.insert(history.end(), open_[beam].tokens.begin(), open_[beam].tokens.end());
      PenalizeRepetition(history, options_.repetition_penalty, absl::MakeSpan(scores));
      for (size_t token = 0; token < scores.size(); ++token) {
        candidates.push_back({open_[beam].score + scores[token], static_cast<int64_t>(beam),
                              static_cast<int64_t>(token), row[token] - log_sum});
      }
    }
    const size_t stops = options_.stop_tokens.size();
    const size_t wanted =
        std::min(std::max<size_t>(2, 1 + stops) * options_.num_beams, candidates.size());
    std::partial_sort(candidates.begin(), candidates.begin() + wanted, candidates.end(), Before);
    candidates.resize(wanted);
    return candidates;
  }

  Beam Extended(const Candidate& candidate) const {
    Beam beam = open_[candidate.beam];
    beam.tokens.push_back(candidate.token);
    beam.logprobs.push_back(candidate.logprob);
    beam.score = candidate.total;
    return beam;
  }

  double Normalized(double total, int64_t length) const {
    return total / std::pow(static_cast<double>(length), options_.length_penalty);
  }

  // Keeps the best num_beams of those that ended. Open beams have totals for scores.
  void Finish(Beam beam) {
    beam.score = Normalized(beam.score, length_);
    auto better = [](const Beam& a, const Beam& b) { return a.score > b.score; };
    finished_.insert(std::upper_bound(finished_.begin(), finished_.end(), beam, better), beam);
    if (static_cast<int64_t>(finished_.size()) > options_.num_beams) finished_.pop_back();
  }

  bool MayImprove() const {
    if (static_cast<int64_t>(finished_.size()) < options_.num_beams) return true;
    if (options_.early_stopping == EarlyStopping::kYes) return false;
    const bool any_length =
        options_.early_stopping == EarlyStopping::kNever && options_.length_penalty > 0;
    const double possible = Normalized(open_[0].score, any_length ? max_new_tokens_ : length_);
    return possible > finished_.back().score;
  }

  const std::vector<int64_t>& prompt_;
  const BeamSearchOptions& options_;
  const int64_t max_new_tokens_;
  int64_t length_ = 0;      // of the open beams
  std::vector<Beam> open_;  // the best first; scores are totals
  std::vector<Beam> finished_;
};

absl::Status Validate(const BeamSearchOptions& options) {
  if (options.num_beams < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_beams is ", options.num_beams, ", expected at least 1"));
  }
  if (options.max_new_tokens < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_new_tokens is ", options.max_new_tokens, ", expected at least 0"));
  }
  if (!std::isfinite(options.length_penalty)) {
    return absl::InvalidArgumentError(
        absl::StrCat("length_penalty is ", options.length_penalty, ", expected a finite number"));
  }
  SamplerOptions sampler;
  sampler.repetition_penalty = options.repetition_penalty;
  return ValidateSampler(sampler);
}

}  // namespace

absl::StatusOr<BeamSearchResult> BeamSearch(const ResidualModel& model,
                                            const std::vector<int64_t>& prompt,
                                            const BeamSearchOptions& options) {
  RESIDUAL_RETURN_IF_ERROR(Validate(options));
  RESIDUAL_RETURN_IF_ERROR(ValidatePrompts(model, {prompt}));
  BeamSearchResult result;
  if (options.max_new_tokens == 0) return result;
  int64_t max_new_tokens = options.max_new_tokens;
  if (model.n_ctx() > 0) {
    max_new_tokens =
        std::min(max_new_tokens, model.n_ctx() + 1 - static_cast<int64_t>(prompt.size()));
  }
  Search search(prompt, options, max_new_tokens);
  auto start = std::chrono::steady_clock::now();
  ModelState state = model.NewState(1);
  const auto next_logits = [&](ModelInput input) {
    input.precision = options.precision;
    return model.NextLogits(std::move(input), &state);
  };
  Tensor logits = next_logits(NextInput({prompt}, {0}, 0));
  result.prefill_seconds = SecondsSince(start);
  start = std::chrono::steady_clock::now();
  while (true) {
    RESIDUAL_ASSIGN_OR_RETURN(const std::vector<int64_t> parents,
                              search.Advance(ConvertTo(logits, kF32)));
    if (parents.empty()) break;
    state = state.Select(parents);
    std::vector<std::vector<int64_t>> last;
    for (const Beam& beam : search.open()) last.push_back({beam.tokens.back()});
    const std::vector<int64_t> no_padding(last.size(), 0);
    logits = next_logits(NextInput(last, no_padding, state.length()));
  }
  result.beams = search.TakeFinished();
  result.decode_seconds = SecondsSince(start);
  return result;
}

}  // namespace residual
