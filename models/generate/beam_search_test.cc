#include "models/generate/beam_search.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "models/generate/generate.h"
#include "models/generate/sampler.h"
#include "models/transformer/transformer.h"
#include "tensor/base/parallel.h"

namespace residual {
namespace {

using Ids = std::vector<int64_t>;

constexpr int64_t kVocab = 5;

std::unique_ptr<ResidualModel> Model() {
  TransformerConfig c;
  c.d_model = 16;
  c.n_ctx = 12;
  c.d_vocab = kVocab;
  c.blocks = {{"attn", "mlp"}, {"attn"}};
  c.n_heads = 2;
  c.d_head = 8;
  c.d_mlp = 24;
  c.init_scale = 0.4;
  auto model = BuildTransformer(c);
  Initialize(*model, 3);
  return model;
}

// The log-probability of each token of a continuation, by one whole pass.
std::vector<double> LogProbs(const ResidualModel& model, const Ids& prompt, const Ids& tokens) {
  Ids all = prompt;
  all.insert(all.end(), tokens.begin(), tokens.end());
  const int64_t n = static_cast<int64_t>(all.size());
  const Tensor logits = model.Forward({Tensor::Of<int64_t>({1, n}, all)}).Row(0);
  std::vector<double> logprobs;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto row = logits.Row(static_cast<int64_t>(prompt.size() + i) - 1).span<float>();
    logprobs.push_back(row[tokens[i]] - LogSumExp(row));
  }
  return logprobs;
}

double Sum(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum;
}

// Every continuation of `length` tokens, or up to the first `stop`.
void Enumerate(int64_t length, int64_t stop, Ids* prefix, std::vector<Ids>* all) {
  if (static_cast<int64_t>(prefix->size()) == length ||
      (!prefix->empty() && prefix->back() == stop)) {
    all->push_back(*prefix);
    return;
  }
  for (int64_t token = 0; token < kVocab; ++token) {
    prefix->push_back(token);
    Enumerate(length, stop, prefix, all);
    prefix->pop_back();
  }
}

struct Scored {
  Ids tokens;
  double score;
};

std::vector<Scored> AllContinuations(const ResidualModel& model, const Ids& prompt, int64_t length,
                                     int64_t stop, double length_penalty) {
  std::vector<Ids> all;
  Ids prefix;
  Enumerate(length, stop, &prefix, &all);
  std::vector<Scored> scored;
  for (const Ids& tokens : all) {
    scored.push_back({tokens, Sum(LogProbs(model, prompt, tokens)) /
                                  std::pow(static_cast<double>(tokens.size()), length_penalty)});
  }
  std::sort(scored.begin(), scored.end(),
            [](const Scored& a, const Scored& b) { return a.score > b.score; });
  return scored;
}

// With as many beams as there are continuations nothing is lost, and the search is exact.
TEST(BeamSearchTest, EnoughBeamsFindTheBestOfAll) {
  const auto model = Model();
  const Ids prompt = {1, 4, 0};
  for (const int64_t stop : {int64_t{-1}, int64_t{2}}) {
    for (const double length_penalty : {0.0, 1.0, 2.0}) {
      const auto want = AllContinuations(*model, prompt, 4, stop, length_penalty);
      BeamSearchOptions options;
      options.num_beams = 700;
      options.max_new_tokens = 4;
      options.length_penalty = length_penalty;
      options.early_stopping = EarlyStopping::kNever;
      if (stop >= 0) options.stop_tokens = {stop};
      const auto found = BeamSearch(*model, prompt, options);
      ASSERT_TRUE(found.ok()) << found.status();
      ASSERT_EQ(found->beams.size(), want.size());
      for (int i = 0; i < 5; ++i) {
        EXPECT_EQ(found->beams[i].tokens, want[i].tokens) << i;
        EXPECT_NEAR(found->beams[i].score, want[i].score, 1e-5) << i;
      }
    }
  }
}

TEST(BeamSearchTest, OneBeamIsGreedy) {
  const auto model = Model();
  GenerateOptions greedy;
  greedy.max_new_tokens = 7;
  greedy.sampler.temperature = 0;
  greedy.sampler.repetition_penalty = 1.4;
  BeamSearchOptions options;
  options.num_beams = 1;
  options.max_new_tokens = 7;
  for (int64_t token = 0; token < kVocab; ++token) {
    greedy.sampler.repetition_penalty = options.repetition_penalty = 1;
    EXPECT_EQ(BeamSearch(*model, {token, 3}, options)->beams[0].tokens,
              Generate(*model, {{token, 3}}, greedy)->continuations[0].tokens);
  }
}

TEST(BeamSearchTest, ScoresAndLogProbsAreThoseOfTheTokens) {
  const auto model = Model();
  const Ids prompt = {2, 2};
  BeamSearchOptions options;
  options.num_beams = 3;
  options.max_new_tokens = 6;
  options.length_penalty = 0.6;
  options.stop_tokens = {1};
  const auto found = BeamSearch(*model, prompt, options);
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_EQ(found->beams.size(), 3);
  double last = found->beams[0].score;
  for (const Beam& beam : found->beams) {
    EXPECT_LE(beam.score, last);
    last = beam.score;
    const auto want = LogProbs(*model, prompt, beam.tokens);
    for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(beam.logprobs[i], want[i], 1e-4);
    EXPECT_NEAR(beam.score, Sum(want) / std::pow(static_cast<double>(beam.tokens.size()), 0.6),
                1e-4);
    // Ended by the stop token, or as long as allowed.
    EXPECT_TRUE(beam.tokens.back() == 1 || beam.tokens.size() == 6);
    EXPECT_EQ(std::count(beam.tokens.begin(), beam.tokens.end() - 1, 1), 0);
  }
}

TEST(BeamSearchTest, TheRepetitionPenaltyCounts) {
  const auto model = Model();
  BeamSearchOptions options;
  options.num_beams = 3;
  options.max_new_tokens = 5;
  auto distinct = [&](double penalty) {
    options.repetition_penalty = penalty;
    Ids tokens = BeamSearch(*model, {0}, options)->beams[0].tokens;
    std::sort(tokens.begin(), tokens.end());
    return std::unique(tokens.begin(), tokens.end()) - tokens.begin();
  };
  EXPECT_LT(distinct(1), distinct(1000));
}

TEST(BeamSearchTest, EndsWhereTheContextDoes) {
  const auto model = Model();
  BeamSearchOptions options;
  options.num_beams = 2;
  options.max_new_tokens = 100;
  const auto found = BeamSearch(*model, Ids(10, 1), options);
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_EQ(found->beams.size(), 2);
  for (const Beam& beam : found->beams) EXPECT_EQ(beam.tokens.size(), 3);
  options.max_new_tokens = 0;
  EXPECT_TRUE(BeamSearch(*model, {1}, options)->beams.empty());
}

TEST(BeamSearchTest, EarlyStoppingEndsAtOnceOrLate) {
  const auto model = Model();
  int earlier = 0;
  for (int64_t token = 0; token < kVocab; ++token) {
    BeamSearchOptions options;
    options.num_beams = 2;
    options.max_new_tokens = 11;
    options.stop_tokens = {0, 1};
    auto best = [&](EarlyStopping early) {
      options.early_stopping = early;
      return BeamSearch(*model, {token}, options)->beams[0].score;
    };
    EXPECT_LE(best(EarlyStopping::kYes), best(EarlyStopping::kNo) + 1e-9);
    EXPECT_LE(best(EarlyStopping::kNo), best(EarlyStopping::kNever) + 1e-9);
    earlier += best(EarlyStopping::kYes) < best(EarlyStopping::kNever) - 1e-6;
  }
  EXPECT_GT(earlier, 0);
}

TEST(BeamSearchTest, TheSameForAnyNumberOfThreads) {
  const auto model = Model();
  const int before = NumThreads();
  BeamSearchOptions options;
  options.max_new_tokens = 8;
  SetNumThreads(1);
  const auto one = BeamSearch(*model, {3, 1}, options);
  SetNumThreads(5);
  const auto five = BeamSearch(*model, {3, 1}, options);
  SetNumThreads(before);
  for (size_t i = 0; i < one->beams.size(); ++i) {
    EXPECT_EQ(five->beams[i].tokens, one->beams[i].tokens);
    EXPECT_EQ(five->beams[i].score, one->beams[i].score);
  }
}

TEST(BeamSearchTest, SaysWhatIsWrong) {
  const auto model = Model();
  auto message = [&](const Ids& prompt, const BeamSearchOptions& options) {
    return std::string(BeamSearch(*model, prompt, options).status().message());
  };
  BeamSearchOptions options;
  EXPECT_EQ(message({}, options), "the prompt is empty, expected at least one token");
  EXPECT_EQ(message({5}, options),
            "token 5 at position 0 of the prompt is outside the vocabulary of 5");
  options.num_beams = 0;
  EXPECT_EQ(message({1}, options), "num_beams is 0, expected at least 1");
  options = {};
  options.length_penalty = std::nan("");
  EXPECT_EQ(message({1}, options), "length_penalty is nan, expected a finite number");
  options = {};
  options.repetition_penalty = 0;
  EXPECT_EQ(message({1}, options), "repetition_penalty is 0, expected a number > 0 (1: none)");
}

}  // namespace
}  // namespace residual
