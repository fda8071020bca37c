#include "models/text/prepare/charsmap.h"

#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "models/text/prepare/unicode.h"
#include "utf8proc.h"

namespace residual {
namespace {

// A node of the trie (Darts-clone): a label, whether a key ends here, and where the children are.
class Unit {
 public:
  explicit Unit(uint32_t bits) : bits_(bits) {}
  bool ends_key() const { return bits_ >> 8 & 1; }
  uint32_t value() const { return bits_ & 0x7FFFFFFF; }
  uint32_t label() const { return bits_ & 0x800000FF; }
  uint32_t offset() const { return bits_ >> 10 << ((bits_ & 1 << 9) >> 6); }

 private:
  uint32_t bits_;
};

// The length of the first grapheme of `text`, which is valid UTF-8 and not empty.
size_t FirstGrapheme(absl::string_view text) {
  utf8proc_int32_t state = 0, previous = FirstCharacter(text).code_point;
  size_t length = FirstCharacter(text).length;
  while (length < text.size()) {
    const Character next = FirstCharacter(text.substr(length));
    if (next.code_point < 0 ||
        utf8proc_grapheme_break_stateful(previous, next.code_point, &state)) {
      break;
    }
    previous = next.code_point;
    length += next.length;
  }
  return length;
}

class CharsMap : public Normalizer {
 public:
  CharsMap(std::vector<uint32_t> trie, std::string replacements)
      : trie_(std::move(trie)), replacements_(std::move(replacements)) {}

  std::string Normalize(absl::string_view text) const override {
    constexpr size_t kLongestGrapheme = 5;
    std::string result;
    result.reserve(text.size());
    while (!text.empty()) {
      const Character first = FirstCharacter(text);
      const size_t length = first.code_point < 0 ? first.length : FirstGrapheme(text);
      absl::string_view grapheme = text.substr(0, length);
      text.remove_prefix(length);
      if (length <= kLongestGrapheme) {
        if (const auto replaced = Find(grapheme)) {
          absl::StrAppend(&result, *replaced);
          continue;
        }
      }
      while (!grapheme.empty()) {
        const absl::string_view c = grapheme.substr(0, FirstCharacter(grapheme).length);
        absl::StrAppend(&result, Find(c).value_or(c));
        grapheme.remove_prefix(c.size());
      }
    }
    return result;
  }

 private:
  // What stands for the shortest key that `text` begins with.
  std::optional<absl::string_view> Find(absl::string_view text) const {
    uint32_t node = Unit(trie_[0]).offset();
    for (const char c : text) {
      const uint8_t byte = static_cast<uint8_t>(c);
      if (byte == 0) return std::nullopt;
      node ^= byte;
      if (node >= trie_.size()) return std::nullopt;
      const Unit unit(trie_[node]);
      if (unit.label() != byte) return std::nullopt;
      node ^= unit.offset();
      if (node >= trie_.size()) return std::nullopt;
      if (unit.ends_key()) {
        const uint32_t at = Unit(trie_[node]).value();
        if (at >= replacements_.size()) return std::nullopt;
        return absl::string_view(replacements_.c_str() + at);  // ends with a zero byte
      }
    }
    return std::nullopt;
  }

  std::vector<uint32_t> trie_;
  std::string replacements_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Normalizer>> MakeCharsMap(std::string map) {
  uint32_t bytes = 0;
  if (map.size() >= sizeof(bytes)) std::memcpy(&bytes, map.data(), sizeof(bytes));
  if (bytes < 4 || bytes % 4 != 0 || bytes > map.size() - sizeof(bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat(map.size(), " bytes whose first four say that ", bytes, " of a trie follow"));
  }
  std::vector<uint32_t> trie(bytes / 4);
  std::memcpy(trie.data(), map.data() + sizeof(bytes), bytes);
  return std::unique_ptr<Normalizer>(
      std::make_unique<CharsMap>(std::move(trie), map.substr(sizeof(bytes) + bytes)));
}

}  // namespace residual
