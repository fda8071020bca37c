#include "models/generate/stop_strings.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "tensor/base/random.h"

namespace residual {
namespace {

TEST(StopStringsTest, HoldsBackWhatMayBeOne) {
  StopStrings stop({"\n\n", "END"});
  EXPECT_EQ(stop.Add("one\n"), "one");
  EXPECT_EQ(stop.Add("two E"), "\ntwo ");
  EXPECT_EQ(stop.Add("N"), "");
  EXPECT_EQ(stop.Add("d EN"), "ENd ");
  EXPECT_EQ(stop.Add("D of it"), "");
  EXPECT_TRUE(stop.found());
  EXPECT_EQ(stop.Add("more"), "");
  EXPECT_EQ(stop.Finish(), "");
}

TEST(StopStringsTest, GivesBackWhatWasNone) {
  StopStrings stop({"END"});
  EXPECT_EQ(stop.Add("the E"), "the ");
  EXPECT_EQ(stop.Finish(), "E");
  EXPECT_FALSE(stop.found());
  StopStrings none({});
  EXPECT_EQ(none.Add("all of it"), "all of it");
}

TEST(StopStringsTest, TheFirstThatIsComplete) {
  StopStrings stop({"abcd", "bc", "xbc"});
  EXPECT_EQ(stop.Add("abcd"), "a");
  StopStrings longer({"bc", "xbc"});
  EXPECT_EQ(longer.Add("axbc"), "a");
}

// Character by character, from the definition.
std::string Slow(const std::vector<std::string>& strings, const std::string& text, bool* found) {
  std::string seen;
  for (const char c : text) {
    seen += c;
    size_t longest = 0;
    for (const std::string& string : strings) {
      if (absl::EndsWith(seen, string)) longest = std::max(longest, string.size());
    }
    if (longest > 0) {
      *found = true;
      return seen.substr(0, seen.size() - longest);
    }
  }
  *found = false;
  return seen;
}

TEST(StopStringsTest, PartsMakeNoDifference) {
  const Philox random(4);
  uint64_t draw = 0;
  auto word = [&](int64_t least, int64_t most) {
    std::string word;
    const int64_t length = least + random.Below(draw++, most - least + 1);
    for (int64_t i = 0; i < length; ++i) word += static_cast<char>('a' + random.Below(draw++, 3));
    return word;
  };
  int ended = 0;
  for (int round = 0; round < 2000; ++round) {
    const std::vector<std::string> strings = {word(2, 5), word(3, 6), word(1, 6)};
    const std::string text = word(0, 30);
    bool found;
    const std::string want = Slow(strings, text, &found);
    StopStrings stop(strings);
    std::string got;
    for (size_t at = 0; at < text.size();) {
      const size_t length = 1 + random.Below(draw++, 6);
      got += stop.Add(absl::string_view(text).substr(at, length));
      at += length;
      ASSERT_TRUE(absl::StartsWith(want, got)) << text;
    }
    got += stop.Finish();
    ASSERT_EQ(got, want) << text << " " << testing::PrintToString(strings);
    ASSERT_EQ(stop.found(), found);
    ended += found;
  }
  EXPECT_GT(ended, 500);
  EXPECT_LT(ended, 1990);
}

}  // namespace
}  // namespace residual
