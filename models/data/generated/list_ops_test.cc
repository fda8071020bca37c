#include "models/data/generated/list_ops.h"

#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace residual {
namespace {

// Evaluates the text of an expression, with a stack of open operators: another way than the one
// that drew it. Says in `depth` and `args` how deep and how wide it was.
struct Evaluated {
  int value = -1, depth = 1;
  size_t args = 0;
};

Evaluated Evaluate(const std::string& text) {
  std::vector<std::pair<std::string, std::vector<int>>> open = {{"", {}}};
  Evaluated result;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (word[0] == '[') {
      open.push_back({word.substr(1), {}});
    } else if (word != "]") {
      EXPECT_EQ(word.size(), 1u);
      open.back().second.push_back(word[0] - '0');
    } else {
      auto [name, values] = open.back();
      open.pop_back();
      result.args = std::max(result.args, values.size());
      EXPECT_GE(values.size(), 2u);
      std::multiset<int> sorted(values.begin(), values.end());
      int value = 0;
      if (name == "MIN") {
        value = *sorted.begin();
      } else if (name == "MAX") {
        value = *sorted.rbegin();
      } else if (name == "MED") {
        while (sorted.size() > 2) {
          sorted.erase(sorted.begin());
          sorted.erase(std::prev(sorted.end()));
        }
        value = (*sorted.begin() + *sorted.rbegin()) / 2;
      } else {
        EXPECT_EQ(name, "SM");
        for (int v : values) value = (value + v) % 10;
      }
      open.back().second.push_back(value);
    }
    result.depth = std::max(result.depth, static_cast<int>(open.size()));
  }
  EXPECT_EQ(open.size(), 1u);
  EXPECT_EQ(open.back().second.size(), 1u);
  result.value = open.back().second[0];
  return result;
}

absl::Span<const int32_t> Row(const LabeledSequences& data, int64_t i) {
  return data.x.span<int32_t>().subspan(i * data.length(), data.length());
}

TEST(ListOpsTest, TheEvaluatorOfThisTestIsRight) {
  EXPECT_EQ(Evaluate("[MAX 2 9 [MIN 4 7 ] 0 ]").value, 9);
  EXPECT_EQ(Evaluate("[MED 1 8 3 ]").value, 3);
  EXPECT_EQ(Evaluate("[MED 1 8 3 4 ]").value, 3);
  EXPECT_EQ(Evaluate("[SM 9 9 [MED 0 9 ] ]").value, 2);
}

TEST(ListOpsTest, EveryLabelIsTheValueOfItsExpression) {
  ListOpsOptions options;
  options.n = 2000;
  options.min_length = 5;
  options.max_length = 60;
  options.max_depth = 5;
  options.max_args = 4;
  const auto data = MakeListOps(options, 3).value();
  ASSERT_EQ(data.n(), 2000);
  EXPECT_EQ(data.n_classes, 10);
  EXPECT_EQ(data.d_vocab, 16);
  std::map<int, int> labels;
  std::set<std::string> texts;
  int depth = 0;
  size_t args = 0;
  int64_t longest = 0;
  std::map<std::string, int> words;
  for (int64_t i = 0; i < data.n(); ++i) {
    const auto row = Row(data, i);
    const auto end = std::find(row.begin(), row.end(), kListOpsPadding);
    EXPECT_EQ(end - row.begin(), data.lengths[i]);
    EXPECT_EQ(std::count(end, row.end(), kListOpsPadding), row.end() - end);
    EXPECT_GE(data.lengths[i], 5);
    longest = std::max(longest, data.lengths[i]);
    const std::string text = ListOpsText(row);
    const Evaluated evaluated = Evaluate(text);
    EXPECT_EQ(evaluated.value, data.label[i]) << text;
    texts.insert(text);
    ++labels[data.label[i]];
    depth = std::max(depth, evaluated.depth);
    args = std::max(args, evaluated.args);
    std::istringstream each(text);
    for (std::string word; each >> word;) ++words[word];
  }
  EXPECT_EQ(texts.size(), 2000u);
  EXPECT_EQ(labels.size(), 10u);
  EXPECT_EQ(longest, data.length());
  EXPECT_LE(longest, 60);
  EXPECT_EQ(depth, 5);
  EXPECT_EQ(args, 4u);
  // The four operators equally often, and so the ten digits.
  for (const char* op : {"[MIN", "[MAX", "[MED", "[SM"}) {
    EXPECT_NEAR(words[op] * 4.0 / words["]"], 1, 0.1) << op;
  }
  double digits = 0;
  for (int digit = 0; digit < 10; ++digit) digits += words[std::to_string(digit)];
  for (int digit = 0; digit < 10; ++digit) {
    EXPECT_NEAR(words[std::to_string(digit)] * 10 / digits, 1, 0.15) << digit;
  }
}

TEST(ListOpsTest, AsPublished) {
  ListOpsOptions options;
  options.n = 50;
  const auto data = MakeListOps(options, 1).value();
  for (int64_t i = 0; i < data.n(); ++i) {
    EXPECT_GT(data.lengths[i], 500);
    EXPECT_LT(data.lengths[i], 2000);
    EXPECT_EQ(Evaluate(ListOpsText(Row(data, i))).value, data.label[i]);
  }
}

TEST(ListOpsTest, FollowsTheSeed) {
  ListOpsOptions options;
  options.n = 20;
  options.min_length = 3;
  options.max_length = 30;
  const auto tokens = [&](uint64_t seed) { return MakeListOps(options, seed)->x.ToDoubles(); };
  EXPECT_EQ(tokens(1), tokens(1));
  EXPECT_NE(tokens(1), tokens(2));
}

TEST(ListOpsTest, WhatCannotBeIsSaid) {
  const auto message = [](const ListOpsOptions& options) {
    return std::string(MakeListOps(options, 1).status().message());
  };
  ListOpsOptions options;
  options.n = 11;
  options.min_length = options.max_length = 1;
  EXPECT_EQ(message(options),
            "list ops: 10 different expressions of 1 to 1 tokens in 11000 tries, expected 11: "
            "other lengths, a larger max_depth or max_args, or a smaller n?");
  options.n = 10;
  EXPECT_TRUE(MakeListOps(options, 1).ok());
  options.min_length = 2;
  EXPECT_EQ(message(options), "list ops: min_length is 2, expected 1 to 1");
  options = {};
  options.n = 0;
  EXPECT_EQ(message(options), "list ops: n is 0, expected 1 to 537139");
  options = {};
  options.max_args = 1;
  EXPECT_EQ(message(options), "list ops: max_args is 1, expected 2 to 1073741824");
  options = {};
  options.max_depth = 0;
  EXPECT_EQ(message(options), "list ops: max_depth is 0, expected 1 to 1000");
}

}  // namespace
}  // namespace residual
