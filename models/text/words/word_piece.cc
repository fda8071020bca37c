#include "models/text/words/word_piece.h"

#include <utility>

#include "absl/strings/match.h"
#include "models/text/prepare/trie.h"
#include "models/text/prepare/unicode.h"

namespace residual {
namespace {

bool HasMoreCharactersThan(absl::string_view word, int64_t most) {
  int64_t count = 0;
  while (!word.empty()) {
    if (++count > most) return true;
    word.remove_prefix(FirstCharacter(word).length);
  }
  return false;
}

class WordPiece : public TokenModel {
 public:
  WordPiece(const absl::flat_hash_map<std::string, int32_t>& ids, const WordPieceOptions& options)
      : options_(options) {
    for (const auto& [token, id] : ids) {
      begins_.Add(token, id);
      if (absl::StartsWith(token, options.prefix)) {
        continues_.Add(absl::string_view(token).substr(options.prefix.size()), id);
      }
    }
  }

  void Encode(absl::string_view piece, std::vector<int32_t>* ids) const override {
    const size_t before = ids->size();
    if (HasMoreCharactersThan(piece, options_.max_characters)) return ids->push_back(options_.unk);
    for (size_t at = 0; at < piece.size();) {
      size_t longest = 0;
      int32_t found = -1;
      (at == 0 ? begins_ : continues_)
          .ForEachPrefix(piece.substr(at), [&](size_t length, int32_t id) {
            longest = length;
            found = id;
          });
      if (found < 0) {
        ids->resize(before);
        return ids->push_back(options_.unk);
      }
      ids->push_back(found);
      at += longest;
    }
  }

 private:
  WordPieceOptions options_;
  TokenTrie begins_, continues_;  // the tokens whole, and those that continue, without the prefix
};

class WordLevel : public TokenModel {
 public:
  WordLevel(absl::flat_hash_map<std::string, int32_t> ids, int32_t unk)
      : ids_(std::move(ids)), unk_(unk) {}
  void Encode(absl::string_view piece, std::vector<int32_t>* ids) const override {
    const auto it = ids_.find(piece);
    const int32_t id = it == ids_.end() ? unk_ : it->second;
    if (id >= 0) ids->push_back(id);
  }

 private:
  absl::flat_hash_map<std::string, int32_t> ids_;
  int32_t unk_;
};

}  // namespace

std::unique_ptr<TokenModel> MakeWordPiece(const absl::flat_hash_map<std::string, int32_t>& ids,
                                          const WordPieceOptions& options) {
  return std::make_unique<WordPiece>(ids, options);
}

std::unique_ptr<TokenModel> MakeWordLevel(absl::flat_hash_map<std::string, int32_t> ids,
                                          int32_t unk) {
  return std::make_unique<WordLevel>(std::move(ids), unk);
}

}  // namespace residual
