// From the texts of tokens, as a vocabulary writes them, back to text: the steps that
// tokenizer.json lists under "decoder", each from a list of strings to a list of strings.

#ifndef RESIDUAL_MODELS_TEXT_PREPARE_DECODER_H_
#define RESIDUAL_MODELS_TEXT_PREPARE_DECODER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "models/text/prepare/regex.h"

namespace residual {

class Decoder {
 public:
  virtual ~Decoder() = default;
  virtual void Apply(std::vector<std::string>* tokens) const = 0;
};

// All in one string.
std::unique_ptr<Decoder> MakeFuse();

// `content` in place of every match in every token. `pattern` is not empty.
std::unique_ptr<Decoder> MakeReplaceInTokens(std::string pattern, std::string content);
std::unique_ptr<Decoder> MakeReplaceInTokens(std::unique_ptr<Regex> pattern, std::string content);

// Tokens "<0xE2>" in a row become the characters of their bytes; if those are no UTF-8, each of
// them becomes U+FFFD.
std::unique_ptr<Decoder> MakeByteFallback();

// At most so many times `content` is taken from the start and the end of every token.
std::unique_ptr<Decoder> MakeStripTokens(std::string content, int start, int stop);

// `replacement` becomes a space; in the first token, if `drops_first`, nothing.
std::unique_ptr<Decoder> MakeMetaspaceDecoder(std::string replacement, bool drops_first);

// A space before every token but the first, or, of a token that begins with `prefix` ("##"), the
// prefix gone. With `cleanup` no space is left before punctuation and English contractions.
std::unique_ptr<Decoder> MakeWordPieceDecoder(std::string prefix, bool cleanup);

// A space between tokens: what is done where a file names no decoder.
std::unique_ptr<Decoder> MakeSpaceBetween();

std::unique_ptr<Decoder> MakeDecoderSequence(std::vector<std::unique_ptr<Decoder>> sequence);

// The byte that "<0xE2>" stands for; -1: it stands for none.
int ByteOfToken(absl::string_view token);

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_PREPARE_DECODER_H_
