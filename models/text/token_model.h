// What makes tokens of a piece of text: byte-pair encoding and its relatives.

#ifndef RESIDUAL_MODELS_TEXT_TOKEN_MODEL_H_
#define RESIDUAL_MODELS_TEXT_TOKEN_MODEL_H_

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"

namespace residual {

class TokenModel {
 public:
  virtual ~TokenModel() = default;
  // Appends the ids of one piece (see pre_tokenizer.h): a function of the piece alone.
  virtual void Encode(absl::string_view piece, std::vector<int32_t>* ids) const = 0;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_TOKEN_MODEL_H_
