// Labelled data of a recipe; texts and tasks: recipe_test.cc.

#include "tools/training/data/train_data.h"

#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensor/io/file.h"
#include "tools/cli/command_line.h"

namespace residual {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class LabeledDataTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = JoinPath(::testing::TempDir(),
                       ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder_);
    flags_.model = "s4d";
    flags_.out = JoinPath(folder_, "out");
    flags_.labeled = "digits,rows=100,test_rows=7,side=4";
    ASSERT_TRUE(MakeFolders(flags_.out).ok());
  }
  absl::StatusOr<TrainData> Load(Recipe& recipe) const {
    return LoadTrainData(flags_, recipe.settings.Resolve().value(), recipe);
  }
  absl::Status Refused() {
    absl::StatusOr<Recipe> recipe = NewRecipe(flags_);
    return recipe.ok() ? Load(*recipe).status() : recipe.status();
  }

  std::string folder_;
  TrainFlags flags_;
};

TEST_F(LabeledDataTest, HoldsRowsOut) {
  absl::StatusOr<Recipe> recipe = NewRecipe(flags_);
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  const auto data = Load(*recipe);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ(data->source, nullptr);
  EXPECT_EQ(data->tokenizer, nullptr);
  EXPECT_EQ(data->labeled.train.n(), 90);  // a tenth is held out
  EXPECT_EQ(data->labeled.validation.n(), 10);
  EXPECT_EQ(data->labeled.test.n(), 7);
  EXPECT_EQ(recipe->labeled_rows, 100);
  EXPECT_EQ(recipe->labeled_crc32.size(), 8);

  flags_.settings = {{"validation_rows", "33"}};
  recipe = NewRecipe(flags_);
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  EXPECT_EQ(Load(*recipe)->labeled.validation.n(), 33);
}

TEST_F(LabeledDataTest, ResumedRunsHaveTheSameRows) {
  absl::StatusOr<Recipe> recipe = NewRecipe(flags_);
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  const auto first = Load(*recipe);
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(WriteFileAtomically(RecipePath(flags_), recipe->ToJson().dump()).ok());
  const std::string out = flags_.out;
  flags_ = TrainFlags();
  flags_.out = out;
  flags_.resume = true;
  recipe = ResumedRecipe(flags_);
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  const auto again = Load(*recipe);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->labeled.train.label, first->labeled.train.label);
  EXPECT_EQ(again->labeled.train.x.ToDoubles(), first->labeled.train.x.ToDoubles());

  flags_.labeled = "digits,rows=100,test_rows=7,side=4,seed=1";
  recipe = ResumedRecipe(flags_);
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  const absl::Status other = Load(*recipe).status();
  EXPECT_EQ(other.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(other.message()), HasSubstr("the run began with 100 and"));
  flags_.labeled.clear();
  flags_.text = "x";
  EXPECT_THAT(std::string(ResumedRecipe(flags_).status().message()), HasSubstr("has other data"));
}

TEST_F(LabeledDataTest, SaysWhatCannotBe) {
  const auto refused = [&](const char* name, const char* value, const char* part) {
    flags_.settings = {{"batch_size", "8"}, {name, value}};
    const absl::Status status = Refused();
    EXPECT_TRUE(IsUsageError(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  };
  refused("validation_rows", "100", "--validation_rows: 100 rows");
  refused("batch_size", "91", "--batch_size=91, expected 1 to the 90 rows to train on");
  refused("tokenizer", "bpe:300", "--tokenizer is for texts");
  refused("n_items", "3", "--n_items is for tasks");
  refused("context", "64", "--context is for texts and tasks");
  flags_.labeled = "digits,rows=5,test_rows=7,side=4";
  refused("seed", "1", "--validation_rows is missing");
  flags_.labeled = "digit";
  refused("seed", "1", "--labeled: 'digit', expected one of");
  flags_.labeled.clear();
  flags_.task = "induction_heads";
  refused("pooling", "last", "--pooling is for labelled data");
}

}  // namespace
}  // namespace residual
