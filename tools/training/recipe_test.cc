#include "tools/training/recipe.h"

#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensor/io/file.h"
#include "tools/cli/command_line.h"
#include "tools/training/data/train_data.h"

namespace residual {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

class RecipeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = JoinPath(::testing::TempDir(),
                       ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder_);
    flags_.model = "attn_only";
    flags_.text = Path("text.txt");
    flags_.out = Path("out");
    ASSERT_TRUE(MakeFolders(flags_.out).ok());
    std::string text;
    for (int i = 0; i < 200; ++i) text += "the cat sat on the mat. ";
    Write("text.txt", text);
  }
  std::string Path(const std::string& name) const { return JoinPath(folder_, name); }
  void Write(const std::string& name, const std::string& contents) const {
    ASSERT_TRUE(WriteFileAtomically(Path(name), contents).ok());
  }
  // What a new run leaves: train.json and the tokenizer.
  void Begin() {
    absl::StatusOr<Recipe> recipe = NewRecipe(flags_);
    ASSERT_TRUE(recipe.ok()) << recipe.status();
    const absl::StatusOr<TrainData> data = Load(*recipe);
    ASSERT_TRUE(data.ok()) << data.status();
    if (data->tokenizer != nullptr) {
      ASSERT_TRUE(data->tokenizer->Save(flags_.out).ok());
    }
    Write("out/train.json", recipe->ToJson().dump());
    const std::string out = flags_.out;
    flags_ = TrainFlags();
    flags_.out = out;
    flags_.resume = true;
  }
  absl::StatusOr<TrainData> Load(Recipe& recipe) const {
    return LoadTrainData(flags_, recipe.settings.Resolve().value(), recipe);
  }
  void ExpectUsage(const absl::Status& status, const char* message) {
    EXPECT_TRUE(IsUsageError(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }

  std::string folder_;
  TrainFlags flags_;
};

TEST_F(RecipeTest, FlagsGoOverConfigOverDefaults) {
  Write("c.json", R"({"model": "gpt2", "d_model": 96, "lr": 0.5, "seed": 4})");
  flags_.config = Path("c.json");
  flags_.model = "";
  flags_.settings = {{"lr", "0.25"}};
  flags_.seed = 7;
  const auto recipe = NewRecipe(flags_);
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  const json values = recipe->ToJson();
  EXPECT_EQ(values["model"], "gpt2");
  EXPECT_EQ(values["d_model"], 96);
  EXPECT_EQ(values["lr"], 0.25);
  EXPECT_EQ(values["seed"], 7);
  EXPECT_EQ(values["n_layers"], 4);
  EXPECT_EQ(values["text"], Path("text.txt"));
}

TEST_F(RecipeTest, BadFlags) {
  TrainFlags flags = flags_;
  flags.model = "";
  ExpectUsage(NewRecipe(flags).status(), "--model is missing, expected one of attn_only, gpt2");
  flags = flags_;
  flags.model = "gpt3";
  ExpectUsage(NewRecipe(flags).status(), "did you mean 'gpt2'");
  flags = flags_;
  flags.text = "";
  ExpectUsage(NewRecipe(flags).status(), "neither --text nor --task nor --labeled");
  flags.task = "repeated_token";
  ExpectUsage(NewRecipe(flags).status(),
              "--task=repeated_token, expected one of repeated_tokens, ");
  flags.text = "x";
  ExpectUsage(NewRecipe(flags).status(), "more than one of --text, --task and --labeled");
  flags = flags_;
  flags.settings = {{"d_modle", "64"}};
  ExpectUsage(NewRecipe(flags).status(), "no flag --d_modle; did you mean");
  flags = flags_;
  flags.config = Path("none.json");
  EXPECT_TRUE(absl::IsNotFound(NewRecipe(flags).status()));
  Write("bad.json", R"({"d_modle": 64})");
  flags.config = Path("bad.json");
  ExpectUsage(NewRecipe(flags).status(), "bad.json: no setting d_modle");
  Write("bad.json", "{");
  ExpectUsage(NewRecipe(flags).status(), "bad.json: not valid JSON");
}

TEST_F(RecipeTest, Tokenizers) {
  Recipe recipe = NewRecipe(flags_).value();
  EXPECT_EQ(Load(recipe)->tokenizer->vocab_size(), 256);
  EXPECT_EQ(recipe.text_bytes, 4800);
  flags_.settings = {{"tokenizer", "bpe:262"}};
  recipe = NewRecipe(flags_).value();
  const auto data = Load(recipe);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ(data->tokenizer->vocab_size(), 262);
  EXPECT_EQ(data->source->d_vocab(), 262);
  // One that was made before, by its folder.
  ASSERT_TRUE(data->tokenizer->Save(flags_.out).ok());
  flags_.settings = {{"tokenizer", flags_.out}};
  recipe = NewRecipe(flags_).value();
  EXPECT_EQ(Load(recipe)->tokenizer->vocab_size(), 262);
  for (const char* bad : {"bpe:100", "bpe:", "bpe:many"}) {
    flags_.settings = {{"tokenizer", bad}};
    recipe = NewRecipe(flags_).value();
    ExpectUsage(Load(recipe).status(), bad);
  }
  flags_.settings = {{"tokenizer", "byts"}};
  recipe = NewRecipe(flags_).value();
  EXPECT_FALSE(Load(recipe).ok());
}

TEST_F(RecipeTest, VocabularyIsTheDatas) {
  flags_.settings = {{"d_vocab", "256"}};
  Recipe recipe = NewRecipe(flags_).value();
  EXPECT_TRUE(Load(recipe).ok());
  flags_.settings = {{"d_vocab", "300"}};
  recipe = NewRecipe(flags_).value();
  ExpectUsage(Load(recipe).status(), "--d_vocab=300, the tokenizer has 256 tokens");
}

TEST_F(RecipeTest, BadTexts) {
  Recipe recipe = NewRecipe(flags_).value();
  recipe.text = Path("none.txt");
  EXPECT_THAT(std::string(Load(recipe).status().message()), HasSubstr("none.txt: cannot open"));
  Write("text.txt", "");
  recipe.text = Path("text.txt");
  EXPECT_THAT(std::string(Load(recipe).status().message()),
              HasSubstr("text.txt: is empty, expected a text"));
  Write("text.txt", "short");
  EXPECT_THAT(std::string(Load(recipe).status().message()),
              HasSubstr("text.txt: the text has 5 tokens, expected at least 130"));
  recipe.text = folder_;
  EXPECT_THAT(std::string(Load(recipe).status().message()), HasSubstr("is a folder"));
}

TEST_F(RecipeTest, ResumeNeedsNoOtherFlags) {
  flags_.settings = {{"d_model", "32"}, {"tokenizer", "bpe:260"}, {"n_layers", "3"}};
  flags_.seed = 3;
  const json before = NewRecipe(flags_)->settings.values();
  Begin();
  absl::StatusOr<Recipe> recipe = ResumedRecipe(flags_);
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  EXPECT_EQ(recipe->settings.values(), before);
  const auto data = Load(*recipe);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ(data->source->d_vocab(), 260);
}

TEST_F(RecipeTest, ResumeTakesWhatAgreesAndRefusesWhatDoesNot) {
  flags_.settings = {{"d_model", "32"}, {"lr", "0.001"}};
  Begin();
  flags_.model = "attn_only";
  flags_.settings = {{"d_model", "32"}, {"lr", "1e-3"}};
  flags_.seed = 0;
  EXPECT_TRUE(ResumedRecipe(flags_).ok());
  Write("c.json", R"({"d_model": 32})");
  flags_.config = Path("c.json");
  EXPECT_TRUE(ResumedRecipe(flags_).ok());
  Write("c.json", R"({"d_model": 48})");
  flags_.settings.clear();
  ExpectUsage(ResumedRecipe(flags_).status(), "--resume: d_model is 48, but ");
}

TEST_F(RecipeTest, ResumeContradicted) {
  Begin();
  const TrainFlags before = flags_;
  flags_.settings = {{"lr", "0.1"}};
  ExpectUsage(ResumedRecipe(flags_).status(), "--resume: lr is 0.1, but ");
  flags_ = before;
  flags_.seed = 1;
  ExpectUsage(ResumedRecipe(flags_).status(), "--resume: seed is 1, but ");
  flags_ = before;
  flags_.model = "gpt2";
  ExpectUsage(ResumedRecipe(flags_).status(), "--resume: model is \"gpt2\", but ");
  flags_ = before;
  flags_.task = "repeated_tokens";
  ExpectUsage(ResumedRecipe(flags_).status(), "--resume: task is \"repeated_tokens\", but ");
  flags_ = before;
  flags_.settings = {{"lrr", "0.1"}};
  ExpectUsage(ResumedRecipe(flags_).status(), "did you mean 'lr'");
}

TEST_F(RecipeTest, NothingToResume) {
  flags_.resume = true;
  const absl::Status status = ResumedRecipe(flags_).status();
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("out: has no run to resume"));
}

TEST_F(RecipeTest, TextThatMovedOrChanged) {
  Begin();
  std::filesystem::rename(Path("text.txt"), Path("moved.txt"));
  Recipe recipe = ResumedRecipe(flags_).value();
  EXPECT_TRUE(absl::IsNotFound(Load(recipe).status()));
  flags_.text = Path("moved.txt");
  recipe = ResumedRecipe(flags_).value();
  EXPECT_TRUE(Load(recipe).ok());
  std::string text = ReadFile(Path("moved.txt")).value();
  text[100] ^= 1;
  Write("moved.txt", text);
  const absl::Status status = Load(recipe).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("moved.txt: has 4800 bytes and crc32 "),
                    HasSubstr("the run began with 4800 and ")));
}

TEST_F(RecipeTest, Task) {
  flags_.text = "";
  flags_.task = "repeated_tokens";
  const TrainFlags before = flags_;
  flags_.settings = {{"repeat", "0.5"}};
  ExpectUsage(NewRecipe(flags_).status(), "--repeat is for texts");
  flags_ = before;
  Recipe fresh = NewRecipe(flags_).value();
  EXPECT_EQ(Load(fresh)->source->d_vocab(), 64);
  flags_.settings = {{"d_vocab", "33"}};
  Begin();
  absl::StatusOr<Recipe> recipe = ResumedRecipe(flags_);
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  const auto data = Load(*recipe);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ(data->source->d_vocab(), 33);
  EXPECT_EQ(data->tokenizer, nullptr);
}

}  // namespace
}  // namespace residual
