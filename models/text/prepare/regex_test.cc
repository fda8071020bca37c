#include "models/text/prepare/regex.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace residual {
namespace {

std::vector<std::string> Matches(const std::string& pattern, const std::string& text) {
  const auto regex = Regex::Compile(pattern);
  EXPECT_TRUE(regex.ok()) << regex.status();
  std::vector<std::string> found;
  (*regex)->FindAll(
      text, [&](size_t begin, size_t end) { found.push_back(text.substr(begin, end - begin)); });
  return found;
}

using Strings = std::vector<std::string>;

TEST(RegexTest, ClassesAreThoseOfUnicode) {
  EXPECT_EQ(Matches("\\p{L}+", "na\u00EFve 12 \u4E2D\u6587"),
            (Strings{"na\u00EFve", "\u4E2D\u6587"}));
  EXPECT_EQ(Matches("\\s+", "a\u3000\u00A0b c"), (Strings{"\u3000\u00A0", " "}));
  EXPECT_EQ(Matches("[^\\s]+|\\S\\s", "a\u180Eb"), (Strings{"a\u180Eb"}));
  EXPECT_EQ(Matches("\\d", "1\u0664"), (Strings{"1", "\u0664"}));
  EXPECT_EQ(Matches("(?i:'S)", "it's IT'S"), (Strings{"'s", "'S"}));
}

TEST(RegexTest, WordsHaveMarks) {
  EXPECT_EQ(Matches("\\w+", "e\u0301_1 \u20AC"), (Strings{"e\u0301_1"}));
  EXPECT_EQ(Matches("[\\w-]+", "a-e\u0301 b"), (Strings{"a-e\u0301", "b"}));
  EXPECT_EQ(Matches("\\W+", "e\u0301, x"), (Strings{", "}));
}

TEST(RegexTest, EmptyMatchesGoOn) {
  EXPECT_EQ(Matches("x*", "\u00E9xx"), (Strings{"", "xx", ""}));
  EXPECT_EQ(Matches("", ""), Strings{""});
}

TEST(RegexTest, BytesThatAreNoUtf8MatchNothing) {
  EXPECT_EQ(Matches("[^b]+", "a\xFFz\xE2\x82 b"), (Strings{"a", "z", " "}));
}

TEST(RegexTest, HostilePatternsEnd) {
  EXPECT_EQ(Matches("(a+)+$", std::string(200, 'a') + "b"), Strings{});
  EXPECT_EQ(Matches("(a|aa)+$", std::string(5000, 'a') + "b"), Strings{});
}

TEST(RegexTest, SaysWhatIsWrong) {
  const auto regex = Regex::Compile("a(b");
  ASSERT_FALSE(regex.ok());
  EXPECT_EQ(regex.status().message(), "missing closing parenthesis at byte 3");
  EXPECT_FALSE(Regex::Compile("[z-a]").ok());
  EXPECT_FALSE(Regex::Compile("\\C").ok());
}

}  // namespace
}  // namespace residual
