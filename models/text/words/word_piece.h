// Models that cut a word by looking tokens up: WordPiece, and one token a word.

#ifndef RESIDUAL_MODELS_TEXT_WORDS_WORD_PIECE_H_
#define RESIDUAL_MODELS_TEXT_WORDS_WORD_PIECE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "models/text/token_model.h"

namespace residual {

struct WordPieceOptions {
  int32_t unk = 0;               // the token of a word that cannot be cut
  std::string prefix = "##";     // of tokens that continue a word
  int64_t max_characters = 100;  // a longer word is unknown
};

// WordPiece (Schuster and Nakajima 2012; Devlin et al. 2019): the longest token that the word
// begins with, then the longest that continues it, and so on; one unk if that does not end.
std::unique_ptr<TokenModel> MakeWordPiece(const absl::flat_hash_map<std::string, int32_t>& ids,
                                          const WordPieceOptions& options);

// The word is a token, or else unk; with unk < 0 it is left out.
std::unique_ptr<TokenModel> MakeWordLevel(absl::flat_hash_map<std::string, int32_t> ids,
                                          int32_t unk);

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_WORDS_WORD_PIECE_H_
