// Characters in UTF-8, and what Unicode says of them (utf8proc, Unicode 15).

#ifndef RESIDUAL_MODELS_TEXT_PREPARE_UNICODE_H_
#define RESIDUAL_MODELS_TEXT_PREPARE_UNICODE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace residual {

// One character at the start of some bytes.
struct Character {
  int32_t code_point;  // -1: the bytes are no UTF-8
  // How many bytes it takes, at least 1. Of what is no UTF-8: the longest part that begins a
  // character (Unicode 15, table 3-8), so that each such part counts as one.
  int length;
  // No UTF-8, but more bytes after the end of the text could make it so.
  bool cut_short;
};

// The first character of `text`, which must not be empty.
Character FirstCharacter(absl::string_view text);

// The classes that the patterns of byte-level tokenizers distinguish: \p{L}, \p{N}, \s (Unicode's
// White_Space), and the rest, bytes that are no UTF-8 included.
enum class CharClass : uint8_t { kLetter, kNumber, kSpace, kOther };

// The class of a code point; -1 is kOther.
CharClass ClassOf(int32_t code_point);

// Whether \w matches: letters, marks, numbers and connectors such as '_'.
bool IsWordCharacter(int32_t code_point);

// \p{P}; \p{M}, such as the accents of normal form D, and of those the ones that take no space,
// \p{Mn}; controls, formats, and what is for private use: \p{C} but what is not assigned.
bool IsPunctuation(int32_t code_point);
bool IsMark(int32_t code_point);
bool IsNonspacingMark(int32_t code_point);
bool IsControl(int32_t code_point);

// Appends the character, or what Unicode's full mapping makes of it in lower case.
void AppendUtf8(int32_t code_point, std::string* text);
void AppendLowercase(int32_t code_point, std::string* text);

// `bytes` with U+FFFD in place of each part that is no UTF-8.
std::string ReplaceInvalid(absl::string_view bytes);

// How many bytes at the end of `bytes` begin a character that more bytes could complete: 0 to 3.
size_t CutShortBytes(absl::string_view bytes);

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_PREPARE_UNICODE_H_
