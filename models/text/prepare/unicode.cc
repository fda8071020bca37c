#include "models/text/prepare/unicode.h"

#include <algorithm>

#include "utf8proc.h"

namespace residual {
namespace {

// What may follow a first byte (Unicode 15, table 3-7): how many bytes, and the range of the
// second; those after it are 80..BF.
struct Lead {
  int length;
  uint8_t low, high;
};

Lead LeadOf(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};  // no overlong forms
  if (byte == 0xED) return {3, 0x80, 0x9F};  // no surrogates
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};  // up to U+10FFFF
  return {0, 0, 0};
}

CharClass ClassOfUncached(int32_t code_point) {
  switch (utf8proc_category(code_point)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return CharClass::kLetter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return CharClass::kNumber;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return CharClass::kSpace;
    default:
      // The controls that are White_Space.
      return (code_point >= 0x09 && code_point <= 0x0D) || code_point == 0x85 ? CharClass::kSpace
                                                                              : CharClass::kOther;
  }
}

}  // namespace

Character FirstCharacter(absl::string_view text) {
  const uint8_t first = static_cast<uint8_t>(text[0]);
  if (first < 0x80) return {first, 1, false};
  const Lead lead = LeadOf(first);
  if (lead.length == 0) return {-1, 1, false};
  int32_t code_point = first & (0xFF >> (lead.length + 1));
  for (int i = 1; i < lead.length; ++i) {
    if (i == static_cast<int>(text.size())) return {-1, i, true};
    const uint8_t byte = static_cast<uint8_t>(text[i]);
    const bool fits = i == 1 ? byte >= lead.low && byte <= lead.high : byte >= 0x80 && byte <= 0xBF;
    if (!fits) return {-1, i, false};
    code_point = code_point << 6 | (byte & 0x3F);
  }
  return {code_point, lead.length, false};
}

CharClass ClassOf(int32_t code_point) {
  // Most of most texts. A table of ASCII costs a load where utf8proc has four.
  static const auto* ascii = [] {
    auto* table = new CharClass[128];
    for (int32_t c = 0; c < 128; ++c) table[c] = ClassOfUncached(c);
    return table;
  }();
  if (code_point < 0) return CharClass::kOther;
  return code_point < 128 ? ascii[code_point] : ClassOfUncached(code_point);
}

bool IsWordCharacter(int32_t code_point) {
  if (code_point < 0) return false;
  switch (utf8proc_category(code_point)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return false;
  }
}

bool IsPunctuation(int32_t code_point) {
  if (code_point < 0) return false;
  switch (utf8proc_category(code_point)) {
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
      return true;
    default:
      return false;
  }
}

bool IsMark(int32_t code_point) {
  if (code_point < 0) return false;
  switch (utf8proc_category(code_point)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      return true;
    default:
      return false;
  }
}

bool IsNonspacingMark(int32_t code_point) {
  return code_point >= 0 && utf8proc_category(code_point) == UTF8PROC_CATEGORY_MN;
}

bool IsControl(int32_t code_point) {
  if (code_point < 0) return false;
  switch (utf8proc_category(code_point)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
      return true;
    default:
      return false;
  }
}

void AppendUtf8(int32_t code_point, std::string* text) {
  utf8proc_uint8_t bytes[4];
  const utf8proc_ssize_t length = utf8proc_encode_char(code_point, bytes);
  text->append(reinterpret_cast<const char*>(bytes), length);
}

void AppendLowercase(int32_t code_point, std::string* text) {
  if (code_point == 0x130) {  // the one that becomes two: I with a dot above
    text->append("i\u0307");
  } else {
    AppendUtf8(utf8proc_tolower(code_point), text);
  }
}

std::string ReplaceInvalid(absl::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    const Character c = FirstCharacter(bytes);
    if (c.code_point >= 0) {
      text.append(bytes.data(), c.length);
    } else {
      text += "\xEF\xBF\xBD";
    }
    bytes.remove_prefix(c.length);
  }
  return text;
}

size_t CutShortBytes(absl::string_view bytes) {
  for (size_t n = 1; n <= std::min<size_t>(3, bytes.size()); ++n) {
    const uint8_t byte = static_cast<uint8_t>(bytes[bytes.size() - n]);
    if (byte >= 0x80 && byte <= 0xBF) continue;  // the first byte of its character is before it
    return FirstCharacter(bytes.substr(bytes.size() - n)).cut_short ? n : 0;
  }
  return 0;
}

}  // namespace residual
