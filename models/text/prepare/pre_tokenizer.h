// Cutting a text into the pieces that are tokenized one by one. No token spans two pieces.

#ifndef RESIDUAL_MODELS_TEXT_PREPARE_PRE_TOKENIZER_H_
#define RESIDUAL_MODELS_TEXT_PREPARE_PRE_TOKENIZER_H_

#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"

namespace residual {

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  // Calls `piece` for every piece, in order; together they are the text. None is empty.
  virtual void Split(absl::string_view text,
                     absl::FunctionRef<void(absl::string_view)> piece) const = 0;
};

// The whole text as one piece.
std::unique_ptr<PreTokenizer> MakeWholeText();

// GPT-2's pattern (Radford et al. 2019):
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// A word takes the space before it; of several spaces the last goes to the word.
std::unique_ptr<PreTokenizer> MakeGpt2Pattern();

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_PREPARE_PRE_TOKENIZER_H_
