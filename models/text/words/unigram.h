// The unigram language model (Kudo 2018): of all ways to cut a text into tokens, the one whose
// log-probabilities sum to the most (Viterbi).

#ifndef RESIDUAL_MODELS_TEXT_WORDS_UNIGRAM_H_
#define RESIDUAL_MODELS_TEXT_WORDS_UNIGRAM_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "models/text/token_model.h"

namespace residual {

struct UnigramToken {
  std::string text;
  double log_probability;
};

struct UnigramOptions {
  int32_t unk = -1;            // of characters without a token; -1: they are left out
  bool byte_fallback = false;  // such characters become the tokens "<0xE2>" of their bytes
};

// vocabulary: by id. A character without a token costs 10 more than the least likely token; several
// in a row are one unk. Of equally good ways the one whose last token is the longest.
// Time for n bytes: O(n times the longest token).
std::unique_ptr<TokenModel> MakeUnigram(const std::vector<UnigramToken>& vocabulary,
                                        const UnigramOptions& options);

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_WORDS_UNIGRAM_H_
