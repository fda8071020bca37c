// tokenizer.json, Hugging Face's description of a tokenizer. Every tokenizer here is made from one.

#ifndef RESIDUAL_MODELS_TEXT_TOKENIZER_JSON_H_
#define RESIDUAL_MODELS_TEXT_TOKENIZER_JSON_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "models/text/tokenizer.h"
#include "nlohmann/json.hpp"

namespace residual {

// `source` names the file in errors. A table by id is made, so ids must be dense: the largest at
// most twice the number of tokens, plus 65536. No two tokens may share an id.
absl::StatusOr<std::unique_ptr<Tokenizer>> TokenizerFromJson(std::string json,
                                                             const std::string& source);

// GPT-2's two files: an object of tokens and ids, and a merge ("Ġ t") per line, the first of lowest
// rank. A token "<|endoftext|>" is special: GPT-2 knows it by name, as the files cannot say so.
absl::StatusOr<std::unique_ptr<Tokenizer>> TokenizerFromVocabAndMerges(
    const nlohmann::json& vocab, absl::string_view merges, const std::string& vocab_source,
    const std::string& merges_source);

// BERT's vocab.txt: a token per line, its id the number of the line, from 0.
struct WordPieceFileOptions {
  bool lowercase = true;
  bool handle_chinese_chars = true;
  std::optional<bool> strip_accents;  // none: if lowercase
};
absl::StatusOr<std::unique_ptr<Tokenizer>> TokenizerFromWordPieceVocabulary(
    absl::string_view vocabulary, const WordPieceFileOptions& options, const std::string& source);

// The tokenizer.json of a byte-level byte-pair encoding with GPT-2's pattern. tokens: bytes by id.
// merges: ids of the two tokens by rank.
std::string ByteLevelBpeJson(const std::vector<std::string>& tokens,
                             const std::vector<std::pair<int32_t, int32_t>>& merges);

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_TOKENIZER_JSON_H_
