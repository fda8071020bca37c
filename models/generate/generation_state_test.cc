#include "models/generate/generation_state.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "models/generate/generate.h"
#include "models/stream/state_file.h"
#include "models/transformer/transformer.h"
#include "tensor/base/random.h"

namespace residual {
namespace {

using Ids = std::vector<int64_t>;

class GenerationStateTest : public testing::Test {
 protected:
  GenerationStateTest() : path_(testing::TempDir() + "/generation") {
    TransformerConfig c;
    c.d_model = 24;
    c.n_ctx = 24;
    c.d_vocab = 31;
    c.blocks = {{"attn", "mlp"}, {"attn", "mlp"}};
    c.n_heads = 4;
    c.d_head = 6;
    c.d_mlp = 40;
    c.init_scale = 0.3;
    model_ = BuildTransformer(c);
    Initialize(*model_, 5);
  }

  Ids Prompt(int64_t length, uint64_t seed) const {
    const Philox random(seed, RandomStream("prompt"));
    Ids ids;
    for (int64_t i = 0; i < length; ++i) ids.push_back(random.Below(i, model_->d_vocab()));
    return ids;
  }

  static GenerateOptions Options(int64_t n, double temperature = 1) {
    GenerateOptions options;
    options.max_new_tokens = n;
    options.sampler.temperature = temperature;
    options.sampler.repetition_penalty = 1.2;
    options.sampler.seed = 3;
    return options;
  }

  Generated Continue(GenerationState& state, const GenerateOptions& options) const {
    const auto generated = ContinueGeneration(*model_, options, state);
    EXPECT_TRUE(generated.ok()) << generated.status();
    return *generated;
  }

  GenerationState ThroughAFile(const GenerationState& state) const {
    const absl::Status saved = SaveGeneration(path_, *model_, state);
    EXPECT_TRUE(saved.ok()) << saved;
    auto loaded = LoadGeneration(path_, *model_);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return *std::move(loaded);
  }

  std::string path_;
  std::unique_ptr<ResidualModel> model_;
};

// Of one text, and of several of different lengths: the tokens and the bits of their probabilities.
TEST_F(GenerationStateTest, GoesOnAsIfNeverInterrupted) {
  for (const std::vector<Ids>& prompts :
       {std::vector<Ids>{Prompt(4, 1)}, {Prompt(3, 1), Prompt(9, 2), Prompt(1, 3)}}) {
    for (const double temperature : {0.0, 1.0}) {
      const auto whole = Generate(*model_, prompts, Options(12, temperature));
      ASSERT_TRUE(whole.ok()) << whole.status();
      GenerationState state;
      state.texts = prompts;
      std::vector<Continuation> got(prompts.size());
      for (const int64_t n : {1, 6, 5}) {
        const Generated part = Continue(state, Options(n, temperature));
        for (size_t i = 0; i < prompts.size(); ++i) {
          const Continuation& c = part.continuations[i];
          got[i].tokens.insert(got[i].tokens.end(), c.tokens.begin(), c.tokens.end());
          got[i].logprobs.insert(got[i].logprobs.end(), c.logprobs.begin(), c.logprobs.end());
        }
        state = ThroughAFile(state);
      }
      for (size_t i = 0; i < prompts.size(); ++i) {
        EXPECT_EQ(got[i].tokens, whole->continuations[i].tokens);
        EXPECT_EQ(got[i].logprobs, whole->continuations[i].logprobs);
      }
    }
  }
}

// More words after the first part, as many or of different numbers for each: as a prompt of it all.
TEST_F(GenerationStateTest, TakesMoreWords) {
  for (const std::vector<int64_t>& more : {std::vector<int64_t>{4, 4}, {1, 5}, {0, 0}, {3, 0}}) {
    GenerationState state;
    state.texts = {Prompt(6, 1), Prompt(2, 2)};
    Continue(state, Options(3, 0));
    state = ThroughAFile(state);
    for (int i : {0, 1}) {
      const Ids words = Prompt(more[i], 7 + i);
      state.texts[i].insert(state.texts[i].end(), words.begin(), words.end());
    }
    const auto want = Generate(*model_, state.texts, Options(4, 0));
    const Generated got = Continue(state, Options(4, 0));
    for (int i : {0, 1}) {
      EXPECT_EQ(got.continuations[i].tokens, want->continuations[i].tokens);
    }
  }
}

TEST_F(GenerationStateTest, ReadsPromptsForLater) {
  const std::vector<Ids> prompts = {Prompt(7, 1), Prompt(1, 2), Prompt(4, 3)};
  GenerationState state;
  state.texts = prompts;
  Continue(state, Options(0));
  EXPECT_EQ(state.model.length(), 6);
  EXPECT_EQ(state.texts, prompts);
  Continue(state, Options(0));
  EXPECT_EQ(state.model.length(), 6) << "there is nothing more to read";
  state = ThroughAFile(state);
  const auto want = Generate(*model_, prompts, Options(5));
  const Generated got = Continue(state, Options(5));
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(got.continuations[i].tokens, want->continuations[i].tokens);
  }
}

// One text ends before the other, then both go on; and a text goes on behind its end of text.
TEST_F(GenerationStateTest, TextsThatEndedGoOn) {
  GenerationState state;
  state.texts = {Prompt(3, 1), Prompt(5, 2)};
  const Generated free = Continue(state, Options(6, 0));
  for (const int which : {0, 1}) {
    GenerationState stopped;
    stopped.texts = {Prompt(3, 1), Prompt(5, 2)};
    GenerateOptions options = Options(6, 0);
    int made = 0;
    options.on_token = [&](int64_t prompt, const Sampled&) {
      return prompt != which || ++made < 2;
    };
    Continue(stopped, options);
    EXPECT_EQ(stopped.rows, Ids{1 - which});
    stopped = ThroughAFile(stopped);
    EXPECT_EQ(
        Continue(stopped, Options(4, 0)).continuations[which].tokens,
        Ids(free.continuations[which].tokens.begin() + 2, free.continuations[which].tokens.end()));
  }
  GenerationState one;
  one.texts = {Prompt(3, 1)};
  GenerateOptions ends = Options(9, 0);
  ends.stop_tokens = {free.continuations[0].tokens[0]};
  EXPECT_EQ(Continue(one, ends).continuations[0].end, EndOfGeneration::kStopToken);
  one = ThroughAFile(one);
  EXPECT_EQ(one.model.length(), 3);
  EXPECT_EQ(Continue(one, Options(5, 0)).continuations[0].tokens,
            Ids(free.continuations[0].tokens.begin() + 1, free.continuations[0].tokens.end()));
}

TEST_F(GenerationStateTest, SaysWhatCannotBe) {
  GenerationState state;
  state.texts = {{5}};
  Continue(state, Options(0));
  EXPECT_EQ(SaveGeneration(path_, *model_, state).message(),
            path_ + ": nothing was read that could be saved, expected more than one token");
  state.texts = {Prompt(20, 1)};
  Continue(state, Options(50));
  EXPECT_EQ(state.texts[0].size(), 25);
  EXPECT_EQ(ContinueGeneration(*model_, Options(1), state).status().message(),
            "the prompt has 25 tokens, more than the model's context of 24");

  state.texts = {Prompt(4, 1), Prompt(2, 2)};
  state.model = ModelState();
  Continue(state, Options(3));
  const StateLists good = {{"tokens", {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
                           {"lengths", {7, 5}},
                           {"rows", {0, 1}},
                           {"padding", {0, 2}},
                           {"draws", {3}}};
  const auto error = [&](const std::string& name, const Ids& list) {
    StateLists lists = good;
    lists[name] = list;
    EXPECT_TRUE(SaveState(path_, *model_, state.model, 2, lists).ok());
    const auto loaded = LoadGeneration(path_, *model_);
    if (loaded.ok()) return std::string("none");
    return std::string(loaded.status().message()).substr(path_.size() + 2);
  };
  EXPECT_EQ(error("draws", {3}), "none");
  EXPECT_EQ(error("tokens", {1, 31}), "element 1 of 'tokens' is 31, expected a token of the 31");
  EXPECT_EQ(error("tokens", {-1}), "element 0 of 'tokens' is -1, expected a token of the 31");
  EXPECT_EQ(error("lengths", {7, 6}),
            "element 1 of 'lengths' is 6, expected from 1 to the 5 that are left");
  EXPECT_EQ(error("lengths", {0, 5}),
            "element 0 of 'lengths' is 0, expected from 1 to the 12 that are left");
  EXPECT_EQ(error("lengths", {7, 4}), "'tokens' has 12 numbers, expected the 11 of 'lengths'");
  EXPECT_EQ(error("rows", {0}), "'rows' has 1 numbers, expected 2, one for each row");
  EXPECT_EQ(error("rows", {0, 0}), "element 1 of 'rows' is 0, expected a text from 1 of 2");
  EXPECT_EQ(error("rows", {0, 2}), "element 1 of 'rows' is 2, expected a text from 1 of 2");
  EXPECT_EQ(error("rows", {-1, 0}), "element 0 of 'rows' is -1, expected a text from 0 of 2");
  EXPECT_EQ(error("padding", {0}), "'padding' has 1 numbers, expected 2, one for each row");
  EXPECT_EQ(error("padding", {0, 1}),
            "element 1 of 'padding' is 1, expected from 2 to 6 before a text of 5");
  EXPECT_EQ(error("padding", {0, 7}),
            "element 1 of 'padding' is 7, expected from 2 to 6 before a text of 5");
  EXPECT_EQ(error("draws", {}), "'draws' has 0 numbers, expected one");
  EXPECT_EQ(error("draws", {-1}), "element 0 of 'draws' is -1, expected from 0 to 1099511627776");
}

}  // namespace
}  // namespace residual
