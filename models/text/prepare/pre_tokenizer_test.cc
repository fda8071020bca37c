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
  pre_tokenizer.Split(text, [&](absl::string_view piece) { pieces.emplace_back(piece); });
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
