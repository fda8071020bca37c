#include "tensor/io/crc32.h"

#include <array>
#include <cstring>

namespace residual {
namespace {

// tables[k][b]: the remainder of byte b followed by k zero bytes, so that eight bytes are taken at
// once ("slicing by 8", Kounavis and Berry 2005).
using Tables = std::array<std::array<uint32_t, 256>, 8>;

constexpr Tables MakeTables() {
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit) {
      remainder = remainder >> 1 ^ (remainder & 1 ? 0xEDB88320u : 0u);
    }
    tables[0][byte] = remainder;
  }
  for (int k = 1; k < 8; ++k) {
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const uint32_t before = tables[k - 1][byte];
      tables[k][byte] = before >> 8 ^ tables[0][before & 255];
    }
  }
  return tables;
}

constexpr Tables kTables = MakeTables();

}  // namespace

uint32_t Crc32(absl::string_view bytes, uint32_t crc) {
  const char* data = bytes.data();
  size_t n = bytes.size();
  crc = ~crc;
  for (; n >= 8; data += 8, n -= 8) {
    uint64_t word;
    std::memcpy(&word, data, 8);
    word ^= crc;
    crc = 0;
    for (int k = 0; k < 8; ++k) crc ^= kTables[7 - k][word >> 8 * k & 255];
  }
  for (; n > 0; ++data, --n) {
    crc = crc >> 8 ^ kTables[0][(crc ^ static_cast<unsigned char>(*data)) & 255];
  }
  return ~crc;
}

}  // namespace residual
