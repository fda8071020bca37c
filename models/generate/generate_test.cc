#include "models/generate/generate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "models/transformer/transformer.h"
#include "tensor/base/parallel.h"
#include "tensor/base/random.h"

namespace residual {
namespace {

using Ids = std::vector<int64_t>;

struct Variant {
  const char* name;
  Positions positions;
  NormPlacement placement;
};

TransformerConfig Config(const Variant& variant) {
  TransformerConfig c;
  c.d_model = 24;
  c.n_ctx = 16;
  c.d_vocab = 31;
  c.blocks = {{"attn", "mlp"}, {"attn", "mlp"}};
  c.n_heads = 4;
  c.d_head = 6;
  c.d_mlp = 40;
  c.init_scale = 0.3;
  c.positions = variant.positions;
  c.norm_placement = variant.placement;
  return c;
}

class GenerateTest : public testing::TestWithParam<Variant> {
 protected:
  void SetUp() override {
    model_ = BuildTransformer(Config(GetParam()));
    Initialize(*model_, 5);
  }

  Ids Prompt(int64_t length, uint64_t seed = 1) const {
    const Philox random(seed, RandomStream("prompt"));
    Ids ids;
    for (int64_t i = 0; i < length; ++i) ids.push_back(random.Below(i, model_->d_vocab()));
    return ids;
  }

  Continuation One(const Ids& prompt, const GenerateOptions& options) const {
    const auto generated = Generate(*model_, {prompt}, options);
    EXPECT_TRUE(generated.ok()) << generated.status();
    return generated->continuations[0];
  }

  std::string Error(const std::vector<Ids>& prompts, const GenerateOptions& options = {}) const {
    return std::string(Generate(*model_, prompts, options).status().message());
  }

  std::unique_ptr<ResidualModel> model_;
};

INSTANTIATE_TEST_SUITE_P(
    Variants, GenerateTest,
    testing::Values(Variant{"Learned", Positions::kLearned, NormPlacement::kPre},
                    Variant{"Rotary", Positions::kRotary, NormPlacement::kPre},
                    Variant{"Alibi", Positions::kAlibi, NormPlacement::kPre},
                    Variant{"OnQueriesAndKeys", Positions::kSinusoidalOnQK, NormPlacement::kPre},
                    Variant{"PostNorm", Positions::kSinusoidal, NormPlacement::kPost}),
    [](const auto& info) { return std::string(info.param.name); });

GenerateOptions Greedy(int64_t n) {
  GenerateOptions options;
  options.max_new_tokens = n;
  options.sampler.temperature = 0;
  return options;
}

TEST_P(GenerateTest, GreedyIsTheMostProbableOfAWholePassEachTime) {
  Ids history = Prompt(4);
  const Continuation got = One(history, Greedy(8));
  ASSERT_EQ(got.tokens.size(), 8);
  EXPECT_EQ(got.end, EndOfGeneration::kMaxNewTokens);
  for (int64_t i = 0; i < 8; ++i) {
    const int64_t n = static_cast<int64_t>(history.size());
    const Tensor logits = model_->Forward({Tensor::Of<int64_t>({1, n}, history)}).Row(0);
    const auto last = logits.Row(n - 1).span<float>();
    EXPECT_EQ(got.tokens[i], std::max_element(last.begin(), last.end()) - last.begin());
    EXPECT_NEAR(got.logprobs[i], last[got.tokens[i]] - LogSumExp(last), 1e-4);
    history.push_back(got.tokens[i]);
  }
}

TEST_P(GenerateTest, PromptsTogetherAreAsAlone) {
  const std::vector<Ids> prompts = {Prompt(3, 1), Prompt(9, 2), Prompt(1, 3), Prompt(9, 4)};
  for (const double temperature : {0.0, 1.0}) {
    GenerateOptions options = Greedy(6);
    options.sampler.temperature = temperature;
    options.sampler.repetition_penalty = 1.3;
    options.sampler.seed = 17;
    options.first_row = 40;
    const auto together = Generate(*model_, prompts, options);
    ASSERT_TRUE(together.ok()) << together.status();
    for (size_t i = 0; i < prompts.size(); ++i) {
      GenerateOptions alone = options;
      alone.first_row = 40 + static_cast<int64_t>(i);
      const Continuation want = One(prompts[i], alone), got = together->continuations[i];
      EXPECT_EQ(got.tokens, want.tokens) << "prompt " << i;
      for (size_t j = 0; j < want.logprobs.size(); ++j) {
        EXPECT_NEAR(got.logprobs[j], want.logprobs[j], 1e-4);
      }
    }
  }
}

// In bf16 the first token is that of a run in bf16 over the prompt, and the logits are near those
// of f32: the run was made in the precision asked for, and in that alone.
TEST_P(GenerateTest, RunsInThePrecisionAskedFor) {
  const Ids prompt = Prompt(9, 2);
  GenerateOptions options = Greedy(1);
  const Continuation full = One(prompt, options);
  options.precision = Precision::kBF16;
  const Continuation narrow = One(prompt, options);
  ModelInput input;
  input.tokens = Tensor::Of<int64_t>({1, 9}, prompt);
  input.precision = Precision::kBF16;
  input.last_logits = 1;
  const Tensor logits = model_->Forward(input);
  const absl::Span<const float> row = logits.span<float>();
  EXPECT_NEAR(narrow.logprobs[0], row[narrow.tokens[0]] - LogSumExp(row), 1e-4);
  EXPECT_NE(narrow.logprobs[0], full.logprobs[0]);
  EXPECT_NEAR(narrow.logprobs[0], full.logprobs[0], 0.1);
}

// The long prompt fills the context while the short one, padded to its length, has room.
TEST_P(GenerateTest, FillsTheContextOfEveryPrompt) {
  const std::vector<Ids> prompts = {Prompt(2, 1), Prompt(15, 2), Prompt(16, 3), Prompt(6, 4)};
  const auto together = Generate(*model_, prompts, Greedy(50));
  ASSERT_TRUE(together.ok()) << together.status();
  for (size_t i = 0; i < prompts.size(); ++i) {
    const Continuation got = together->continuations[i];
    // The last token is the one after a full context.
    EXPECT_EQ(prompts[i].size() + got.tokens.size(), 17) << "prompt " << i;
    EXPECT_EQ(got.end, EndOfGeneration::kContextFull);
    EXPECT_EQ(got.tokens, One(prompts[i], Greedy(50)).tokens) << "prompt " << i;
  }
}

TEST_P(GenerateTest, StopsAtATokenOrWhenToldTo) {
  const std::vector<Ids> prompts = {Prompt(3, 1), Prompt(5, 2)};
  GenerateOptions options = Greedy(8);
  const auto whole = Generate(*model_, prompts, options);
  const Ids& first = whole->continuations[0].tokens;
  options.stop_tokens = {first[4], 30};
  const auto stopped = Generate(*model_, prompts, options);
  const int64_t length = std::find(first.begin(), first.end(), first[4]) - first.begin() + 1;
  EXPECT_EQ(stopped->continuations[0].tokens, Ids(first.begin(), first.begin() + length));
  EXPECT_EQ(stopped->continuations[0].end, EndOfGeneration::kStopToken);

  options.stop_tokens = {};
  std::vector<Ids> seen(2);
  options.on_token = [&](int64_t prompt, const Sampled& sampled) {
    seen[prompt].push_back(sampled.token);
    return prompt == 0 || seen[1].size() < 3;
  };
  const auto told = Generate(*model_, prompts, options);
  EXPECT_EQ(seen[0], whole->continuations[0].tokens);
  EXPECT_EQ(seen[1].size(), 3);
  EXPECT_EQ(told->continuations[1].tokens, seen[1]);
  EXPECT_EQ(told->continuations[1].end, EndOfGeneration::kCallback);
}

TEST_P(GenerateTest, TheSameForAnyNumberOfThreads) {
  const int before = NumThreads();
  const std::vector<Ids> prompts = {Prompt(3, 1), Prompt(7, 2)};
  GenerateOptions options;
  options.max_new_tokens = 9;
  options.sampler.top_p = 0.9;
  SetNumThreads(1);
  const auto one = Generate(*model_, prompts, options);
  for (const int threads : {2, 3, 7}) {
    SetNumThreads(threads);
    const auto more = Generate(*model_, prompts, options);
    for (int i : {0, 1}) {
      EXPECT_EQ(more->continuations[i].tokens, one->continuations[i].tokens);
      EXPECT_EQ(more->continuations[i].logprobs, one->continuations[i].logprobs);
    }
  }
  SetNumThreads(before);
}

TEST_P(GenerateTest, SeedsAndRowsDiffer) {
  GenerateOptions options;
  options.max_new_tokens = 12;
  const Ids prompt = Prompt(3);
  const Ids base = One(prompt, options).tokens;
  EXPECT_EQ(One(prompt, options).tokens, base);
  GenerateOptions other = options;
  other.sampler.seed = 1;
  EXPECT_NE(One(prompt, other).tokens, base);
  other = options;
  other.first_row = 1;
  EXPECT_NE(One(prompt, other).tokens, base);
}

TEST_P(GenerateTest, SaysWhatIsWrong) {
  EXPECT_EQ(Error({}), "no prompt, expected at least one");
  EXPECT_EQ(Error({{}}), "the prompt is empty, expected at least one token");
  EXPECT_EQ(Error({{1}, {}}), "prompt 1 is empty, expected at least one token");
  EXPECT_EQ(Error({Prompt(17)}), "the prompt has 17 tokens, more than the model's context of 16");
  EXPECT_EQ(Error({{1}, {2, 31}}),
            "token 31 at position 1 of prompt 1 is outside the vocabulary of 31");
  EXPECT_EQ(Error({{-1}}), "token -1 at position 0 of the prompt is outside the vocabulary of 31");
  GenerateOptions options;
  options.max_new_tokens = -1;
  EXPECT_EQ(Error({{1}}, options), "max_new_tokens is -1, expected at least 0");
  options = {};
  options.sampler.top_p = 2;
  EXPECT_EQ(Error({{1}}, options), "top_p is 2, expected a number in (0, 1]");
  options = {};
  options.max_new_tokens = 0;
  EXPECT_TRUE(One({1}, options).tokens.empty());

  for (Parameter& parameter : Parameters(*model_)) {
    if (parameter.name != "unembed.W_U") continue;
    Tensor broken = parameter.value->Clone();
    broken.mutable_data<float>()[3] = std::numeric_limits<float>::quiet_NaN();
    *parameter.value = broken;
  }
  EXPECT_EQ(Error({{1}}), "the logits for new token 0 of prompt 0 hold a NaN or only -inf");
}

}  // namespace
}  // namespace residual
