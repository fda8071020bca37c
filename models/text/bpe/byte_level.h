// GPT-2's way of writing bytes as printable characters: in the vocabulary files of byte-level
// tokenizers every byte is one character, a space "Ġ", a newline "Ċ". Here tokens are plain bytes;
// this is for reading and writing those files.

#ifndef RESIDUAL_MODELS_TEXT_BPE_BYTE_LEVEL_H_
#define RESIDUAL_MODELS_TEXT_BPE_BYTE_LEVEL_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace residual {

// "the cat" -> "theĠcat".
std::string BytesToPrintable(absl::string_view bytes);

// And back; nullopt if a character stands for no byte.
std::optional<std::string> PrintableToBytes(absl::string_view printable);

// The bytes in the order of their characters, which is their order in GPT-2's vocabulary: first
// '!'..'~', 0xA1..0xAC, 0xAE..0xFF, which stand for themselves, then the others.
const std::array<uint8_t, 256>& BytesInPrintableOrder();

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_BPE_BYTE_LEVEL_H_
