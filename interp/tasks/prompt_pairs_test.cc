#include "interp/tasks/prompt_pairs.h"

#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace residual {
namespace {

using ::testing::HasSubstr;

std::vector<int64_t> Row(const Tensor& x, int64_t row) {
  const int64_t n = x.dim(1);
  const int64_t* data = x.data<int64_t>() + row * n;
  return std::vector<int64_t>(data, data + n);
}

std::string Text(const std::vector<int64_t>& bytes) {
  return std::string(bytes.begin(), bytes.end());
}

TEST(PromptPairsTest, RowsOfWordsAreOneLengthAndDifferInTheTask) {
  const auto tokenizer = MakeByteTokenizer();
  for (const std::string task : {"ioi", "greater_than", "docstring"}) {
    SCOPED_TRACE(task);
    PromptTaskOptions options;
    options.rows = 12;
    options.seed = 4;
    const auto pairs = MakePromptPairs(task, tokenizer.get(), 256, options);
    ASSERT_TRUE(pairs.ok()) << pairs.status();
    ASSERT_EQ(pairs->clean.shape(), pairs->corrupted.shape());
    ASSERT_EQ(pairs->clean.dim(0), 12);
    std::set<std::string> different;
    for (int64_t row = 0; row < 12; ++row) {
      const std::string clean = Text(Row(pairs->clean, row));
      const std::string corrupted = Text(Row(pairs->corrupted, row));
      // The prompt, and what both answers begin with.
      EXPECT_EQ(clean.substr(0, pairs->clean_text[row].size()), pairs->clean_text[row]);
      EXPECT_EQ(corrupted.substr(0, pairs->corrupted_text[row].size()), pairs->corrupted_text[row]);
      EXPECT_NE(clean, corrupted);
      EXPECT_NE(pairs->answer[row], pairs->wrong[row]);
      different.insert(clean);
    }
    EXPECT_GT(different.size(), 8);
  }
}

TEST(PromptPairsTest, AnswersAreTheTasks) {
  const auto tokenizer = MakeByteTokenizer();
  const auto years = *MakePromptPairs("greater_than", tokenizer.get(), 256);
  for (size_t row = 0; row < years.answer.size(); ++row) {
    const std::string clean = Text(Row(years.clean, row));
    const size_t from = clean.find("the year ") + 9;
    const std::string from_year = clean.substr(from, 4);
    EXPECT_EQ(Text(Row(years.corrupted, row)).substr(from + 2, 2), "01");
    // The digits said so far and the next one: the right ones may be later, the wrong ones not.
    const std::string said = clean.substr(clean.rfind(' ') + 1);
    const std::string right = said + static_cast<char>(years.answer[row]);
    const std::string wrong = said + static_cast<char>(years.wrong[row]);
    EXPECT_GE(right, from_year.substr(0, right.size())) << clean;
    EXPECT_LE(wrong, from_year.substr(0, wrong.size())) << clean;
    EXPECT_GT(right, wrong);
  }
  const auto names = *MakePromptPairs("ioi", tokenizer.get(), 256);
  for (size_t row = 0; row < names.answer.size(); ++row) {
    // "When X and Y went to the P, Y gave a Q to": the giver stands there twice.
    const std::string& text = names.clean_text[row];
    const std::string giver =
        text.substr(text.find(", ") + 2, text.find(" gave") - text.find(", ") - 2);
    EXPECT_LT(text.find(" " + giver + " "), text.find(", "));
    EXPECT_THAT(names.corrupted_text[row], HasSubstr(" gave a "));
    EXPECT_EQ(names.corrupted_text[row].find(", " + giver), std::string::npos);
  }
  const auto functions = *MakePromptPairs("docstring", tokenizer.get(), 256);
  EXPECT_THAT(functions.clean_text[0], HasSubstr("(self, "));
  EXPECT_EQ(functions.clean_text[0].substr(functions.clean_text[0].size() - 6), ":param");
}

TEST(PromptPairsTest, Induction) {
  PromptTaskOptions options;
  options.rows = 50;
  for (const int64_t length : {4, 7, 20}) {
    options.induction_length = length;
    const auto pairs = *MakePromptPairs("induction", nullptr, length, options);
    for (int64_t row = 0; row < 50; ++row) {
      const std::vector<int64_t> clean = Row(pairs.clean, row),
                                 corrupted = Row(pairs.corrupted, row);
      ASSERT_EQ(clean.size(), length);
      int differing = 0;
      for (int64_t i = 0; i + 1 < length; ++i) {
        if (clean[i] != corrupted[i]) {
          ++differing;
          EXPECT_EQ(clean[i], clean.back());
          EXPECT_EQ(clean[i + 1], pairs.answer[row]);
        }
      }
      EXPECT_EQ(differing, 1);
      EXPECT_EQ(clean.back(), corrupted.back());
      // Corrupted: nothing occurs twice.
      EXPECT_EQ(std::set<int64_t>(corrupted.begin(), corrupted.end()).size(), length);
      EXPECT_NE(pairs.wrong[row], pairs.answer[row]);
      EXPECT_NE(pairs.wrong[row], clean.back());
    }
  }
}

TEST(PromptPairsTest, IsAFunctionOfTheSeed) {
  PromptTaskOptions options;
  const auto a = *MakePromptPairs("induction", nullptr, 100, options);
  const auto again = *MakePromptPairs("induction", nullptr, 100, options);
  options.seed = 1;
  const auto b = *MakePromptPairs("induction", nullptr, 100, options);
  EXPECT_EQ(a.clean.ToDoubles(), again.clean.ToDoubles());
  EXPECT_NE(a.clean.ToDoubles(), b.clean.ToDoubles());
}

TEST(PromptPairsTest, SaysWhatCannotBe) {
  const auto tokenizer = MakeByteTokenizer();
  const auto message = [](const absl::StatusOr<PromptPairs>& pairs) {
    return std::string(pairs.status().message());
  };
  EXPECT_EQ(message(MakePromptPairs("io", nullptr, 100)),
            "no task 'io'; there are ioi, greater_than, docstring, induction; did you mean 'ioi'?");
  EXPECT_EQ(message(MakePromptPairs("ioi", nullptr, 100)),
            "the task 'ioi' is in words, and the model has no tokenizer");
  EXPECT_EQ(message(MakePromptPairs("ioi", tokenizer.get(), 70)).substr(0, 21),
            "the tokenizer's token");
  PromptTaskOptions options;
  options.induction_length = 20;
  EXPECT_EQ(message(MakePromptPairs("induction", nullptr, 19, options)),
            "a vocabulary of 19 tokens, expected at least 20 different ones");
  options.induction_length = 3;
  EXPECT_EQ(message(MakePromptPairs("induction", nullptr, 20, options)),
            "rows of 3 positions, expected at least 4");
  options.rows = 0;
  EXPECT_EQ(message(MakePromptPairs("ioi", nullptr, 20, options)),
            "0 rows of prompts, expected at least 1");
}

}  // namespace
}  // namespace residual
