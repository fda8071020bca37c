#include "models/text/prepare/unicode.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace residual {
namespace {

TEST(UnicodeTest, FirstCharacter) {
  struct Case {
    std::string bytes;
    int32_t code_point;
    int length;
    bool cut_short;
  };
  for (const Case& c : std::vector<Case>{
           {"a", 'a', 1, false},
           {std::string(1, '\0'), 0, 1, false},
           {"\u00E9x", 0xE9, 2, false},
           {"\u20AC", 0x20AC, 3, false},
           {"\U0001F600!", 0x1F600, 4, false},
           {"\xF4\x8F\xBF\xBF", 0x10FFFF, 4, false},
           {"\x80", -1, 1, false},              // a second byte first
           {"\xC0\x80", -1, 1, false},          // overlong
           {"\xE0\x9F\xBF", -1, 1, false},      // overlong
           {"\xED\xA0\x80", -1, 1, false},      // a surrogate
           {"\xF4\x90\x80\x80", -1, 1, false},  // past U+10FFFF
           {"\xF5\x80", -1, 1, false},
           {"\xE2\x82", -1, 2, true},
           {"\xE2", -1, 1, true},
           {"\xE2\x82z", -1, 2, false},
           {"\xF0\x9F\x98", -1, 3, true},
           {"\xF0\x9F\xC0", -1, 2, false},
       }) {
    const Character got = FirstCharacter(c.bytes);
    EXPECT_EQ(got.code_point, c.code_point) << testing::PrintToString(c.bytes);
    EXPECT_EQ(got.length, c.length) << testing::PrintToString(c.bytes);
    EXPECT_EQ(got.cut_short, c.cut_short) << testing::PrintToString(c.bytes);
  }
}

TEST(UnicodeTest, Classes) {
  for (const int32_t c : {int{'a'}, int{'Z'}, 0xE9, 0x4E2D, 0x2B0, 0x10300}) {
    EXPECT_EQ(ClassOf(c), CharClass::kLetter) << c;
  }
  for (const int32_t c : {int{'0'}, 0xB2, 0x2160, 0xBD, 0x660}) {
    EXPECT_EQ(ClassOf(c), CharClass::kNumber) << c;
  }
  int spaces = 0;
  for (int32_t c = 0; c <= 0x10FFFF; ++c) spaces += ClassOf(c) == CharClass::kSpace;
  EXPECT_EQ(spaces, 25);  // White_Space has 25 characters
  for (const int32_t c : {0x09, 0x0D, 0x20, 0x85, 0xA0, 0x1680, 0x200A, 0x2028, 0x3000}) {
    EXPECT_EQ(ClassOf(c), CharClass::kSpace) << c;
  }
  for (const int32_t c : {int{'!'}, int{'_'}, 0, 0x1F, 0x200B, 0x301, 0x1F600, 0x10FFFF, -1}) {
    EXPECT_EQ(ClassOf(c), CharClass::kOther) << c;
  }
  EXPECT_TRUE(IsWordCharacter('_') && IsWordCharacter('7') && IsWordCharacter(0x301));
  EXPECT_FALSE(IsWordCharacter('-') || IsWordCharacter(' ') || IsWordCharacter(-1));
}

TEST(UnicodeTest, ReplacesWhatIsNoUtf8) {
  const std::string r = "\uFFFD";
  EXPECT_EQ(ReplaceInvalid("caf\u00E9 \U0001F600"), "caf\u00E9 \U0001F600");
  EXPECT_EQ(ReplaceInvalid("a\x80z"), "a" + r + "z");
  EXPECT_EQ(ReplaceInvalid("\xF0\x9F\x98z"), r + "z");   // the part that begins one: one
  EXPECT_EQ(ReplaceInvalid("\xED\xA0\x80"), r + r + r);  // begins none: each byte one
  EXPECT_EQ(ReplaceInvalid("\xE2\x82\xE2\x82\xAC"), r + "\u20AC");
  EXPECT_EQ(ReplaceInvalid(""), "");
}

TEST(UnicodeTest, CutShortBytes) {
  EXPECT_EQ(CutShortBytes(""), 0);
  EXPECT_EQ(CutShortBytes("abc"), 0);
  EXPECT_EQ(CutShortBytes("abc\u20AC"), 0);
  EXPECT_EQ(CutShortBytes("abc\xE2"), 1);
  EXPECT_EQ(CutShortBytes("abc\xE2\x82"), 2);
  EXPECT_EQ(CutShortBytes("\xF0\x9F\x98"), 3);
  EXPECT_EQ(CutShortBytes("\xF0\x9F\x98\x80"), 0);
  EXPECT_EQ(CutShortBytes("\xED\xA0"), 0);  // no more bytes make it a character
  EXPECT_EQ(CutShortBytes("\x80\x80\x80\x80"), 0);
}

TEST(UnicodeTest, Categories) {
  EXPECT_TRUE(IsPunctuation('!') && IsPunctuation('_') && IsPunctuation(0x2014));
  EXPECT_FALSE(IsPunctuation('+') || IsPunctuation('a') || IsPunctuation(-1));
  EXPECT_TRUE(IsMark(0x301) && IsNonspacingMark(0x301));
  EXPECT_TRUE(IsMark(0x903) && !IsNonspacingMark(0x903));  // DEVANAGARI SIGN VISARGA
  EXPECT_FALSE(IsMark('e') || IsMark(-1) || IsNonspacingMark(-1));
  EXPECT_TRUE(IsControl(0) && IsControl('\t') && IsControl(0x200B) && IsControl(0xE000));
  EXPECT_FALSE(IsControl(' ') || IsControl(0x378) || IsControl(-1));  // 0x378 is not assigned
}

TEST(UnicodeTest, Lowercase) {
  std::string text;
  for (const int32_t c : {int32_t{'A'}, int32_t{'a'}, 0xC9, 0x130, 0x10400, 0xDF}) {
    AppendLowercase(c, &text);
  }
  EXPECT_EQ(text, "aa\u00E9i\u0307\U00010428\u00DF");
}

}  // namespace
}  // namespace residual
