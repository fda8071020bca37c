#include "models/text/prepare/charsmap.h"

#include <cstring>

#include "absl/strings/escaping.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tensor/io/file.h"

namespace residual {
namespace {

// A map that SentencePiece compiled; see tests/tokenizers/make_sentence_piece.py for its rules.
std::string Map() {
  const auto expected =
      nlohmann::json::parse(*ReadFile("models/text/sentence_piece/testdata/tiny.json"));
  std::string map;
  EXPECT_TRUE(absl::Base64Unescape(expected["charsmap"].get<std::string>(), &map));
  return map;
}

TEST(CharsMapTest, ReplacesGraphemesAndCharacters) {
  const auto map = MakeCharsMap(Map());
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ((*map)->Normalize(""), "");
  EXPECT_EQ((*map)->Normalize("ABC abc"), "abC abc");
  EXPECT_EQ((*map)->Normalize("\uFB01ne\t\U0001F600"), "fine :)");
  EXPECT_EQ((*map)->Normalize("e\u0301e"), "\u00E9e");
  EXPECT_EQ((*map)->Normalize("A\u0301"), "a");  // the shortest key of the grapheme stands for it
  EXPECT_EQ((*map)->Normalize(std::string("\0A\xFF", 3)), std::string("\0a\xFF", 3));
}

TEST(CharsMapTest, RefusesWhatIsCutShort) {
  for (const std::string& bytes : {std::string(), std::string("\4\0\0", 3),
                                   std::string("\0\0\0\0", 4), std::string("\5\0\0\0abcde", 9),
                                   std::string("\xFF\xFF\xFF\x7F", 4), Map().substr(0, 500)}) {
    EXPECT_FALSE(MakeCharsMap(bytes).ok());
  }
}

// Whatever a trie says, nothing outside of it is read (under AddressSanitizer).
TEST(CharsMapTest, BrokenTriesAreHarmless) {
  const std::string map = Map();
  for (size_t i = 4; i < map.size(); i += 3) {
    for (const int flip : {0x01, 0x55, 0xFF}) {
      std::string broken = map;
      broken[i] = static_cast<char>(broken[i] ^ flip);
      const auto made = MakeCharsMap(broken);
      if (made.ok()) (*made)->Normalize("ABC \uFB01 e\u0301 \U0001F600\t");
    }
  }
}

}  // namespace
}  // namespace residual
