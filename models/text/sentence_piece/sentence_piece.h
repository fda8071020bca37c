// spiece.model files (Kudo and Richardson 2018), by the SentencePiece library.

#ifndef RESIDUAL_MODELS_TEXT_SENTENCE_PIECE_SENTENCE_PIECE_H_
#define RESIDUAL_MODELS_TEXT_SENTENCE_PIECE_SENTENCE_PIECE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "models/text/tokenizer.h"

namespace residual {

// model: the bytes of the file. `source` names it in errors. Save writes spiece.model.
absl::StatusOr<std::unique_ptr<Tokenizer>> TokenizerFromSentencePiece(std::string model,
                                                                      const std::string& source);

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_SENTENCE_PIECE_SENTENCE_PIECE_H_
