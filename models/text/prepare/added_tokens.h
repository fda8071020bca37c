// Tokens that are looked for in the text itself, before anything else is done with it, such as
// "<|endoftext|>".

#ifndef RESIDUAL_MODELS_TEXT_PREPARE_ADDED_TOKENS_H_
#define RESIDUAL_MODELS_TEXT_PREPARE_ADDED_TOKENS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "models/text/prepare/trie.h"

namespace residual {

struct AddedToken {
  int32_t id = 0;
  std::string content;       // not empty
  bool single_word = false;  // only where no word character is beside it
  bool left_strip = false;   // takes the white space before it, and after it
  bool right_strip = false;
  bool normalized = false;  // looked for in the normalized text
  bool special = false;
};

// Finds a set of tokens in texts: from the left, of several that begin at one place the longest.
class AddedTokenFinder {
 public:
  explicit AddedTokenFinder(const std::vector<AddedToken>& tokens);

  // Calls `part` for every part of `text`, in order: with an id for a token found, without one for
  // the text between. None is empty.
  void Split(absl::string_view text,
             absl::FunctionRef<void(absl::string_view, std::optional<int32_t>)> part) const;

 private:
  // The token at `begin`, or null.
  const AddedToken* LongestAt(absl::string_view text, size_t begin) const;

  std::vector<AddedToken> tokens_;
  TokenTrie trie_;  // of places in tokens_
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_PREPARE_ADDED_TOKENS_H_
