// The parts around the model as tokenizer.json describes them: normalizers, pre-tokenizers and
// decoders. What we lack is refused by name.

#ifndef RESIDUAL_MODELS_TEXT_JSON_PREPARE_H_
#define RESIDUAL_MODELS_TEXT_JSON_PREPARE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "models/text/json_field.h"
#include "models/text/prepare/decoder.h"
#include "models/text/prepare/normalizer.h"
#include "models/text/prepare/pre_tokenizer.h"

namespace residual {

// Null: none.
absl::StatusOr<std::unique_ptr<Normalizer>> ReadNormalizer(const JsonField& field);

struct PreTokenizerParts {
  std::unique_ptr<PreTokenizer> pre_tokenizer;
  bool byte_level = false;   // the vocabulary writes bytes as printable characters
  bool knows_start = false;  // the start of a text is cut otherwise than the rest
};
absl::StatusOr<PreTokenizerParts> ReadPreTokenizer(const JsonField& field);

// Null for ByteLevel: the bytes of the tokens are the text.
absl::StatusOr<std::unique_ptr<Decoder>> ReadDecoder(const JsonField& field);

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_JSON_PREPARE_H_
