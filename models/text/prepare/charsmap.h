// SentencePiece's precompiled normalisation rules (nmt_nfkc and the like), as tokenizer.json and
// spiece.model carry them: a double-array trie of what is replaced, and the replacements.

#ifndef RESIDUAL_MODELS_TEXT_PREPARE_CHARSMAP_H_
#define RESIDUAL_MODELS_TEXT_PREPARE_CHARSMAP_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "models/text/prepare/normalizer.h"

namespace residual {

// Every grapheme of at most five bytes that is in the map is replaced, else every character of it
// that is. InvalidArgument if the map is cut short or points outside of itself.
absl::StatusOr<std::unique_ptr<Normalizer>> MakeCharsMap(std::string map);

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_PREPARE_CHARSMAP_H_
