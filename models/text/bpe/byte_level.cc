#include "models/text/bpe/byte_level.h"

#include "models/text/prepare/unicode.h"

namespace residual {
namespace {

// Bytes whose character would not be seen (controls, spaces, the soft hyphen) are written as the
// characters from U+0100 on.
struct Mapping {
  std::array<uint8_t, 256> in_order;  // what BytesInPrintableOrder returns
  std::array<int, 256> character;     // of a byte; all are below U+0144
  std::array<int, 0x144> byte;        // of a character, -1: none
};

const Mapping& GetMapping() {
  static const Mapping* mapping = [] {
    auto* m = new Mapping;
    m->byte.fill(-1);
    auto itself = [](int b) {
      return (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    };
    size_t n = 0;
    int next = 0x100;
    for (const bool want : {true, false}) {
      for (int b = 0; b < 256; ++b) {
        if (itself(b) != want) continue;
        m->in_order[n++] = static_cast<uint8_t>(b);
        m->character[b] = want ? b : next++;
        m->byte[m->character[b]] = b;
      }
    }
    return m;
  }();
  return *mapping;
}

}  // namespace

std::string BytesToPrintable(absl::string_view bytes) {
  std::string printable;
  printable.reserve(bytes.size() * 2);
  for (const char byte : bytes) {
    const int c = GetMapping().character[static_cast<uint8_t>(byte)];
    if (c < 0x80) {
      printable += static_cast<char>(c);
    } else {
      printable += static_cast<char>(0xC0 | c >> 6);
      printable += static_cast<char>(0x80 | (c & 0x3F));
    }
  }
  return printable;
}

std::optional<std::string> PrintableToBytes(absl::string_view printable) {
  std::string bytes;
  bytes.reserve(printable.size());
  while (!printable.empty()) {
    const Character c = FirstCharacter(printable);
    const auto& byte = GetMapping().byte;
    if (c.code_point < 0 || c.code_point >= static_cast<int>(byte.size())) return std::nullopt;
    if (byte[c.code_point] < 0) return std::nullopt;
    bytes += static_cast<char>(byte[c.code_point]);
    printable.remove_prefix(c.length);
  }
  return bytes;
}

const std::array<uint8_t, 256>& BytesInPrintableOrder() { return GetMapping().in_order; }

}  // namespace residual
