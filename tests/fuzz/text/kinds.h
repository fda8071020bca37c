// Small tokenizers of every kind, for the fuzz tests.

#ifndef RESIDUAL_TESTS_FUZZ_TEXT_KINDS_H_
#define RESIDUAL_TESTS_FUZZ_TEXT_KINDS_H_

#include <memory>
#include <string>
#include <vector>

#include "models/text/tokenizer.h"

namespace residual {

struct TokenizerKind {
  std::string name;
  std::unique_ptr<Tokenizer> tokenizer;
};

// Byte-level and SentencePiece-style byte-pair encodings, Unigram, WordPiece, words.
const std::vector<TokenizerKind>& TokenizerKinds();

}  // namespace residual

#endif  // RESIDUAL_TESTS_FUZZ_TEXT_KINDS_H_
