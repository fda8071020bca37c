#include "models/text/prepare/pre_tokenizer.h"

#include <regex>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tensor/base/random.h"

namespace residual {
namespace {

using Pieces = std::vector<std::string>;

Pieces Split(const PreTokenizer& pre_tokenizer, const std::string& text) {
  Pieces pieces;
  pre_tokenizer.Split(text, true,
                      [&](absl::string_view piece, bool) { pieces.emplace_back(piece); });
  return pieces;
}

TEST(PreTokenizerTest, Gpt2Pattern) {
  const auto gpt2 = MakeGpt2Pattern();
  EXPECT_EQ(Split(*gpt2, ""), Pieces{});
  EXPECT_EQ(Split(*gpt2, "Hello world, it's 2024!"),
            (Pieces{"Hello", " world", ",", " it", "'s", " 2024", "!"}));
  EXPECT_EQ(Split(*gpt2, "we'll they've I'd I'M can't"),
            (Pieces{"we", "'ll", " they", "'ve", " I", "'d", " I", "'", "M", " can", "'t"}));
  EXPECT_EQ(Split(*gpt2, "a   b"), (Pieces{"a", "  ", " b"}));
  EXPECT_EQ(Split(*gpt2, "a\n\nb"), (Pieces{"a", "\n", "\n", "b"}));
  EXPECT_EQ(Split(*gpt2, "a  "), (Pieces{"a", "  "}));
  EXPECT_EQ(Split(*gpt2, " "), (Pieces{" "}));
  EXPECT_EQ(Split(*gpt2, "\t x"), (Pieces{"\t", " x"}));
  EXPECT_EQ(Split(*gpt2, "don'"), (Pieces{"don", "'"}));
  EXPECT_EQ(Split(*gpt2, "!!'s"), (Pieces{"!!'", "s"}));
}

TEST(PreTokenizerTest, Gpt2PatternBeyondAscii) {
  const auto gpt2 = MakeGpt2Pattern();
  EXPECT_EQ(Split(*gpt2, "caf\u00E9s \u4E2D\u6587\u0661\u0662"),
            (Pieces{"caf\u00E9s", " \u4E2D\u6587", "\u0661\u0662"}));
  // A combining mark is no letter.
  EXPECT_EQ(Split(*gpt2, "e\u0301a"), (Pieces{"e", "\u0301", "a"}));
  // White space that is no ASCII; only ' ' goes with a word.
  EXPECT_EQ(Split(*gpt2, "a\u00A0\u3000b"), (Pieces{"a", "\u00A0", "\u3000", "b"}));
  EXPECT_EQ(Split(*gpt2, "a\u3000 b"), (Pieces{"a", "\u3000", " b"}));
  // Bytes that are no UTF-8 are neither letters, numbers nor spaces.
  EXPECT_EQ(Split(*gpt2, "a\xFF\xE2\x82 b"), (Pieces{"a", "\xFF\xE2\x82", " b"}));
}

TEST(PreTokenizerTest, WholeText) {
  EXPECT_EQ(Split(*MakeWholeText(), ""), Pieces{});
  EXPECT_EQ(Split(*MakeWholeText(), "a b"), Pieces{"a b"});
}

TEST(PreTokenizerTest, BehaviorsOfSplit) {
  const std::string text = "--a-b--";
  const auto split = [&](SplitBehavior behavior, bool invert) {
    return Split(*MakeSplit(std::string("-"), behavior, invert), text);
  };
  EXPECT_EQ(split(SplitBehavior::kRemoved, false), (Pieces{"a", "b"}));
  EXPECT_EQ(split(SplitBehavior::kIsolated, false), (Pieces{"-", "-", "a", "-", "b", "-", "-"}));
  EXPECT_EQ(split(SplitBehavior::kContiguous, false), (Pieces{"--", "a", "-", "b", "--"}));
  EXPECT_EQ(split(SplitBehavior::kMergedWithPrevious, false), (Pieces{"-", "-", "a-", "b-", "-"}));
  EXPECT_EQ(split(SplitBehavior::kMergedWithNext, false), (Pieces{"-", "-a", "-b", "-", "-"}));
  EXPECT_EQ(split(SplitBehavior::kRemoved, true), (Pieces{"-", "-", "-", "-", "-"}));
  EXPECT_EQ(split(SplitBehavior::kMergedWithNext, true), (Pieces{"-", "-", "a-", "b-", "-"}));
}

TEST(PreTokenizerTest, SplitByRegexAndCharacter) {
  EXPECT_EQ(
      Split(*MakeSplit(*Regex::Compile("\\d{1,3}"), SplitBehavior::kIsolated, false), "a12345"),
      (Pieces{"a", "123", "45"}));
  EXPECT_EQ(
      Split(*MakeSplit(IsPunctuationOrAsciiSymbol, SplitBehavior::kIsolated), "a+b\u2014\xFF"),
      (Pieces{"a", "+", "b", "\u2014", "\xFF"}));
  EXPECT_EQ(Split(*MakeSplit(*Regex::Compile("x*"), SplitBehavior::kRemoved, false), "axb"),
            (Pieces{"a", "b"}));
}

TEST(PreTokenizerTest, Metaspace) {
  const std::string meta = "_";
  const auto always = MakeMetaspace(meta, PrependScheme::kAlways, true);
  EXPECT_EQ(Split(*always, "a b  c "), (Pieces{"_a", "_b", "_", "_c", "_"}));
  EXPECT_EQ(Split(*always, " a"), (Pieces{"_a"}));
  EXPECT_EQ(Split(*MakeMetaspace(meta, PrependScheme::kNever, true), "a b"), (Pieces{"a", "_b"}));
  EXPECT_EQ(Split(*MakeMetaspace(meta, PrependScheme::kAlways, false), "a b"), (Pieces{"_a_b"}));
  const auto first = MakeMetaspace(meta, PrependScheme::kFirst, true);
  EXPECT_EQ(Split(*first, "a b"), (Pieces{"_a", "_b"}));
  Pieces later;
  first->Split("a b", false, [&](absl::string_view piece, bool) { later.emplace_back(piece); });
  EXPECT_EQ(later, (Pieces{"a", "_b"}));
}

TEST(PreTokenizerTest, SplitBeforeRuns) {
  const auto runs = MakeSplitBeforeRuns("__");
  EXPECT_EQ(Split(*runs, ""), Pieces{});
  EXPECT_EQ(Split(*runs, "____a_b__c____"), (Pieces{"____a_b", "__c", "____"}));
  EXPECT_EQ(Split(*runs, "a"), Pieces{"a"});
  EXPECT_EQ(Split(*runs, "____"), Pieces{"____"});
}

TEST(PreTokenizerTest, SequenceAndSpaceBefore) {
  std::vector<std::unique_ptr<PreTokenizer>> parts;
  parts.push_back(MakeSplit(std::string("|"), SplitBehavior::kRemoved, false));
  parts.push_back(MakeSpaceBefore());
  parts.push_back(MakeGpt2Pattern());
  EXPECT_EQ(Split(*MakePreTokenizerSequence(std::move(parts)), "ab c| d"),
            (Pieces{" ab", " c", " d"}));
}

TEST(PreTokenizerTest, OnlyTheFirstPieceBegins) {
  std::vector<std::unique_ptr<PreTokenizer>> parts;
  parts.push_back(MakeSplit(std::string(" "), SplitBehavior::kRemoved, false));
  parts.push_back(MakeMetaspace("_", PrependScheme::kFirst, true));
  EXPECT_EQ(Split(*MakePreTokenizerSequence(std::move(parts)), "a b"), (Pieces{"_a", "b"}));
}

// The pattern itself, run by the standard library, which knows only ASCII.
TEST(PreTokenizerTest, EqualsTheRegularExpressionOnRandomAscii) {
  const std::regex pattern(
      "'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\\sA-Za-z0-9]+|\\s+(?!\\S)|\\s+");
  const std::string alphabet = "aelrstvmdLZ09   \n\t\r''!.\x01";
  const auto gpt2 = MakeGpt2Pattern();
  const Philox random(7);
  uint64_t draw = 0;
  for (int i = 0; i < 5000; ++i) {
    std::string text;
    const int64_t length = random.Below(draw++, 24);
    for (int64_t j = 0; j < length; ++j) text += alphabet[random.Below(draw++, alphabet.size())];
    Pieces want;
    for (std::sregex_iterator it(text.begin(), text.end(), pattern), end; it != end; ++it) {
      want.push_back(it->str());
    }
    ASSERT_EQ(Split(*gpt2, text), want) << testing::PrintToString(text);
  }
}

}  // namespace
}  // namespace residual
