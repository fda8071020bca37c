#include "models/data/tasks/tasks.h"

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "gtest/gtest.h"

namespace residual {
namespace {

std::vector<std::vector<int64_t>> Rows(const Tensor& x) {
  const auto all = x.span<int64_t>();
  std::vector<std::vector<int64_t>> rows;
  for (int64_t r = 0; r < x.dim(0); ++r) {
    rows.emplace_back(all.begin() + r * x.dim(1), all.begin() + (r + 1) * x.dim(1));
  }
  return rows;
}

std::unique_ptr<DataSource> Make(const std::string& name, const TaskOptions& options) {
  auto data = MakeTask(name, options);
  EXPECT_TRUE(data.ok()) << data.status();
  return *std::move(data);
}

TEST(TasksTest, BatchesAreAFunctionOfSeedAndStepAndEvaluationIsApart) {
  for (const std::string& name : TaskNames()) {
    TaskOptions options;
    options.context = 40;
    options.n_items = name == "selective_copying" || name == "associative_recall" ? 5 : 0;
    options.d_vocab = 23;
    const auto data = Make(name, options);
    EXPECT_EQ(data->context(), 40);
    EXPECT_EQ(data->d_vocab(), 23);
    const auto rows = Rows(data->Batch(3, 7, 4).tokens);
    EXPECT_EQ(rows, Rows(data->Batch(3, 7, 4).tokens)) << name;
    EXPECT_EQ(rows[1], Rows(data->Batch(3, 7, 2).tokens)[1]) << name;
    EXPECT_NE(rows[0], rows[1]) << name;
    EXPECT_NE(rows, Rows(data->Batch(3, 8, 4).tokens)) << name;
    EXPECT_NE(rows, Rows(data->Batch(4, 7, 4).tokens)) << name;
    EXPECT_NE(rows, Rows(data->EvalBatch(3, 7, 4).tokens)) << name;
  }
}

TEST(TasksTest, TheMarkersAskForTheDataTokensInOrder) {
  TaskOptions options;
  options.context = 50;
  options.n_items = 7;
  const auto data = Make("selective_copying", options);
  const TrainingBatch batch = data->Batch(1, 0, 400);
  const auto tokens = Rows(batch.tokens), targets = Rows(batch.targets);
  std::vector<int> used(43), kinds(16);
  for (size_t r = 0; r < tokens.size(); ++r) {
    std::vector<int64_t> items;
    for (int i = 0; i < 43; ++i) {
      EXPECT_EQ(targets[r][i], kIgnoreTarget);
      if (tokens[r][i] == 0) continue;
      items.push_back(tokens[r][i]);
      ++used[i];
      ++kinds[tokens[r][i]];
    }
    for (int i = 43; i < 50; ++i) EXPECT_EQ(tokens[r][i], 15);
    EXPECT_EQ(items, std::vector<int64_t>(targets[r].begin() + 43, targets[r].end()));
  }
  // Every place and every kind of token as often as the others: 65 of 400, 200 of 2800.
  for (int n : used) EXPECT_NEAR(n, 65, 35);
  EXPECT_EQ(kinds[15], 0);
  for (int kind = 1; kind < 15; ++kind) EXPECT_NEAR(kinds[kind], 200, 60);
}

TEST(TasksTest, TheSpecialTokenStandsTwiceAndAsksForWhatFollowed) {
  TaskOptions options;
  options.context = 12;
  const auto data = Make("induction_heads", options);
  const TrainingBatch batch = data->Batch(1, 0, 500);
  const auto tokens = Rows(batch.tokens), targets = Rows(batch.targets);
  std::map<int64_t, int> places, answers;
  for (size_t r = 0; r < tokens.size(); ++r) {
    ASSERT_EQ(std::count(tokens[r].begin(), tokens[r].end(), 15), 2);
    ASSERT_EQ(tokens[r].back(), 15);
    const int64_t first = std::find(tokens[r].begin(), tokens[r].end(), 15) - tokens[r].begin();
    EXPECT_EQ(targets[r].back(), tokens[r][first + 1]);
    EXPECT_EQ(std::count(targets[r].begin(), targets[r].end(), kIgnoreTarget), 11);
    ++places[first];
    ++answers[targets[r].back()];
  }
  EXPECT_EQ(places.size(), 10);  // 0 to 9: the answer is never at the end
  EXPECT_EQ(answers.size(), 15);
}

TEST(TasksTest, EveryKeyIsAskedForOnceAfterThePairs) {
  TaskOptions options;
  options.context = 64;
  options.d_vocab = 40;
  options.n_items = 9;
  const auto data = Make("associative_recall", options);
  const TrainingBatch batch = data->Batch(1, 0, 200);
  const auto tokens = Rows(batch.tokens), targets = Rows(batch.targets);
  int near = 0, far = 0;
  for (size_t r = 0; r < tokens.size(); ++r) {
    std::map<int64_t, int64_t> value;
    for (int i = 0; i < 9; ++i) {
      EXPECT_LT(tokens[r][2 * i], 20);
      EXPECT_GE(tokens[r][2 * i + 1], 20);
      value[tokens[r][2 * i]] = tokens[r][2 * i + 1];
    }
    EXPECT_EQ(value.size(), 9);
    std::set<int64_t> asked;
    for (int i = 0; i < 64; ++i) {
      if (targets[r][i] == kIgnoreTarget) {
        // What is not asked for is no key, but for the pairs themselves.
        EXPECT_TRUE(i < 18 || tokens[r][i] >= 20);
        continue;
      }
      EXPECT_GE(i, 18);
      EXPECT_EQ(targets[r][i], value.at(tokens[r][i]));
      asked.insert(tokens[r][i]);
      ++(i < 41 ? near : far);
    }
    EXPECT_EQ(asked.size(), 9);
  }
  EXPECT_GT(near, far);
}

TEST(TasksTest, SaysWhatIsWrong) {
  const auto message = [](const std::string& name, const TaskOptions& options) {
    return std::string(MakeTask(name, options).status().message());
  };
  EXPECT_EQ(message("induction_head", {}),
            "no task 'induction_head', expected one of repeated_tokens, selective_copying, "
            "induction_heads, associative_recall; did you mean 'induction_heads'?");
  TaskOptions options;
  options.context = 20;
  options.n_items = 11;
  EXPECT_EQ(message("selective_copying", options),
            "selective_copying: n_items is 11, expected 1 to half of the context, 10");
  EXPECT_EQ(message("induction_heads", options),
            "induction_heads: n_items is 11, expected 0: it has none");
  options.n_items = 6;
  EXPECT_EQ(message("associative_recall", options),
            "associative_recall: n_items is 6, expected 1 to a quarter of the context, 5: a pair "
            "takes two places and its query two more");
  options.n_items = 5;
  options.d_vocab = 9;
  EXPECT_EQ(message("associative_recall", options),
            "associative_recall: d_vocab is 9, expected at least 10: 5 different keys in its first "
            "half");
  options.d_vocab = 10;
  EXPECT_TRUE(MakeTask("associative_recall", options).ok());
  options = {};
  options.context = 2;
  EXPECT_EQ(message("induction_heads", options),
            "induction_heads: context is 2, expected at least 3: the special token, what follows, "
            "the special token again");
  options.context = 3;
  EXPECT_TRUE(MakeTask("induction_heads", options).ok());
  for (int64_t d_vocab : {-1, 1, 2}) {
    options.d_vocab = d_vocab;
    EXPECT_FALSE(MakeTask("selective_copying", options).ok());
    EXPECT_FALSE(MakeTask("induction_heads", options).ok());
  }
}

}  // namespace
}  // namespace residual
