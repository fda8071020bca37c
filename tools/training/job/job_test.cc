// Both kinds of job from flags to folders; what a user sees of them: tests/tools.

#include "tools/training/job/job.h"

#include <filesystem>
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/classify/classifier_folder.h"
#include "models/zoo/zoo.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

using ::testing::HasSubstr;

class JobTest : public ::testing::Test {
 protected:
  void SetUp() override {
    flags_.model = "s4d";
    flags_.out = JoinPath(::testing::TempDir(),
                          ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(flags_.out);
    flags_.settings = {{"d_model", "4"}, {"n_layers", "1"}, {"d_state", "4"}, {"batch_size", "5"}};
  }
  absl::StatusOr<std::unique_ptr<TrainingJob>> Make() {
    RESIDUAL_ASSIGN_OR_RETURN(Recipe recipe, NewRecipe(flags_));
    RESIDUAL_ASSIGN_OR_RETURN(TrainingPlan plan, recipe.settings.Resolve());
    return MakeJob(flags_, plan, recipe);
  }

  TrainFlags flags_;
};

TEST_F(JobTest, ModelsOfTokens) {
  flags_.task = "induction_heads";
  const auto job = Make();
  ASSERT_TRUE(job.ok()) << job.status();
  Initialize((*job)->module(), 1);
  EXPECT_EQ((*job)->tokenizer(), nullptr);
  EXPECT_EQ((*job)->config()["d_vocab"], 16);
  EXPECT_THAT((*job)->Summary(), HasSubstr("16 tokens in the vocabulary"));
  EXPECT_EQ((*job)->StepElements(), 2.0 * 5 * 128 * 16);
  ASSERT_TRUE((*job)->MakeLearner().Step().ok());
  ASSERT_TRUE((*job)->Save(flags_.out).ok());
  EXPECT_TRUE(LoadModel(flags_.out).ok());
  EXPECT_FALSE(HoldsClassifier(flags_.out));
}

TEST_F(JobTest, Classifiers) {
  flags_.labeled = "digits,rows=30,test_rows=8,side=4";
  const auto job = Make();
  ASSERT_TRUE(job.ok()) << job.status();
  Initialize((*job)->module(), 1);
  EXPECT_THAT((*job)->Summary(),
              HasSubstr("27 rows of length 16 to train on, 3 held out, 8 to test"));
  Learner& learner = (*job)->MakeLearner();
  ASSERT_TRUE(learner.Step().ok());
  EXPECT_TRUE(learner.Measure(0).accuracy.has_value());
  ASSERT_TRUE((*job)->Save(flags_.out).ok());
  nlohmann::json members;
  EXPECT_THAT((*job)->Result(members), HasSubstr("best of step 1: validation accuracy"));
  EXPECT_EQ(members["best_step"], 1);
  EXPECT_TRUE(members.contains("test_accuracy"));
  const auto loaded = LoadClassifier(flags_.out);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->config, (*job)->config());
  flags_.settings.emplace_back("positions", "standard");
  EXPECT_THAT(std::string(Make().status().message()), HasSubstr("'positions' is \"standard\""));
}

}  // namespace
}  // namespace residual
