#include "models/text/bpe/byte_level.h"

#include <set>
#include <string>

#include "gtest/gtest.h"

namespace residual {
namespace {

TEST(ByteLevelTest, WritesBytesAsGpt2Does) {
  EXPECT_EQ(BytesToPrintable("the cat\n"), "the\u0120cat\u010A");
  EXPECT_EQ(BytesToPrintable("\u00E9"), "\u00C3\u00A9");
  EXPECT_EQ(BytesToPrintable(std::string(1, '\0')), "\u0100");
  EXPECT_EQ(BytesToPrintable("\xAD"), "\u0143");
}

TEST(ByteLevelTest, EveryByteHasACharacterOfItsOwn) {
  std::set<std::string> characters;
  for (int b = 0; b < 256; ++b) {
    const std::string byte(1, static_cast<char>(b));
    characters.insert(BytesToPrintable(byte));
    EXPECT_EQ(PrintableToBytes(BytesToPrintable(byte)), byte) << b;
  }
  EXPECT_EQ(characters.size(), 256);
}

TEST(ByteLevelTest, OtherCharactersStandForNoByte) {
  EXPECT_EQ(PrintableToBytes(" "), std::nullopt);
  EXPECT_EQ(PrintableToBytes("a\u0144"), std::nullopt);
  EXPECT_EQ(PrintableToBytes("\u4E2D"), std::nullopt);
  EXPECT_EQ(PrintableToBytes("\xC3"), std::nullopt);
  EXPECT_EQ(PrintableToBytes(""), "");
}

TEST(ByteLevelTest, OrderIsThatOfTheCharacters) {
  const auto& order = BytesInPrintableOrder();
  EXPECT_EQ(order[0], '!');
  EXPECT_EQ(order[93], '~');
  EXPECT_EQ(order[94], 0xA1);
  EXPECT_EQ(order[187], 0xFF);
  EXPECT_EQ(order[188], 0);
  EXPECT_EQ(order[220], ' ');
  EXPECT_EQ(order[255], 0xAD);
}

}  // namespace
}  // namespace residual
