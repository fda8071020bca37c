#include "tensor/io/crc32.h"

#include <string>

#include "gtest/gtest.h"

namespace residual {
namespace {

TEST(Crc32Test, KnownValues) {  // of zlib.crc32
  EXPECT_EQ(Crc32(""), 0);
  EXPECT_EQ(Crc32("123456789"), 0xCBF43926);
  EXPECT_EQ(Crc32("a"), 0xE8B7BE43);
  EXPECT_EQ(Crc32(std::string(32, '\0')), 0x190A55AD);
  EXPECT_EQ(Crc32(std::string(32, '\xff')), 0xFF6CAB0B);
}

TEST(Crc32Test, GoesOnFromAnyPlace) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += static_cast<char>(i * 37);
  const uint32_t whole = Crc32(text);
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    EXPECT_EQ(
        Crc32(absl::string_view(text).substr(cut), Crc32(absl::string_view(text).substr(0, cut))),
        whole);
  }
}

TEST(Crc32Test, SeesEveryFlippedBit) {
  std::string text(300, 'x');
  const uint32_t before = Crc32(text);
  for (size_t bit = 0; bit < 8 * text.size(); ++bit) {
    text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << bit % 8));
    EXPECT_NE(Crc32(text), before) << bit;
    text[bit / 8] = 'x';
  }
}

}  // namespace
}  // namespace residual
