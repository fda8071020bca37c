// Cutting a text into the pieces that are tokenized one by one. No token spans two pieces.

#ifndef RESIDUAL_MODELS_TEXT_PREPARE_PRE_TOKENIZER_H_
#define RESIDUAL_MODELS_TEXT_PREPARE_PRE_TOKENIZER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "models/text/prepare/regex.h"

namespace residual {

class PreTokenizer {
 public:
  // A piece, and whether it begins the whole text. The bytes may be gone after the call.
  using PieceFunction = absl::FunctionRef<void(absl::string_view, bool)>;

  virtual ~PreTokenizer() = default;
  // Calls `piece` for every piece, in order. None is empty. `first`: `text` begins the whole text.
  virtual void Split(absl::string_view text, bool first, PieceFunction piece) const = 0;
};

// The whole text as one piece.
std::unique_ptr<PreTokenizer> MakeWholeText();

// GPT-2's pattern (Radford et al. 2019):
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// A word takes the space before it; of several spaces the last goes to the word.
std::unique_ptr<PreTokenizer> MakeGpt2Pattern();

// A space before every text that does not begin with one.
std::unique_ptr<PreTokenizer> MakeSpaceBefore();

// What becomes of a delimiter. Contiguous: delimiters in a row are one piece.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// At every match of the pattern; inverted: at what is between the matches. `pattern` is not empty.
std::unique_ptr<PreTokenizer> MakeSplit(std::unique_ptr<Regex> pattern, SplitBehavior behavior,
                                        bool invert);
std::unique_ptr<PreTokenizer> MakeSplit(std::string pattern, SplitBehavior behavior, bool invert);

// At every character for which `is_delimiter` is true; it is asked about code points, and -1 for
// bytes that are no UTF-8.
std::unique_ptr<PreTokenizer> MakeSplit(std::function<bool(int32_t)> is_delimiter,
                                        SplitBehavior behavior);

// Punctuation, or one of ASCII's symbols, which BERT counts as punctuation.
bool IsPunctuationOrAsciiSymbol(int32_t code_point);

// SentencePiece's: spaces become `replacement` (usually U+2581), and a word begins with one.
enum class PrependScheme { kNever, kFirst, kAlways };  // a replacement before a text without one
std::unique_ptr<PreTokenizer> MakeMetaspace(std::string replacement, PrependScheme scheme,
                                            bool split);

// Before every run of `replacement` but one that begins the text.
std::unique_ptr<PreTokenizer> MakeSplitBeforeRuns(std::string replacement);

// Each cuts the pieces of the one before.
std::unique_ptr<PreTokenizer> MakePreTokenizerSequence(
    std::vector<std::unique_ptr<PreTokenizer>> sequence);

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_PREPARE_PRE_TOKENIZER_H_
