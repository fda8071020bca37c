// Token ids by their bytes, for finding every token that a text begins with.

#ifndef RESIDUAL_MODELS_TEXT_PREPARE_TRIE_H_
#define RESIDUAL_MODELS_TEXT_PREPARE_TRIE_H_

#include <array>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace residual {

class TokenTrie {
 public:
  TokenTrie();

  // Of a token added twice the later id counts. The empty token is found nowhere.
  void Add(absl::string_view token, int32_t id);

  // Calls found(length, id) for every token that `text` begins with, the shortest first.
  template <class Found>
  void ForEachPrefix(absl::string_view text, Found found) const {
    int32_t node = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      node = Next(node, static_cast<uint8_t>(text[i]));
      if (node < 0) return;
      if (ids_[node] >= 0) found(i + 1, ids_[node]);
    }
  }

 private:
  // The child, or -1. The root's children are looked up without a hash.
  int32_t Next(int32_t node, uint8_t byte) const {
    if (node == 0) return first_[byte];
    const auto it = edges_.find(static_cast<uint64_t>(node) << 8 | byte);
    return it == edges_.end() ? -1 : it->second;
  }

  std::array<int32_t, 256> first_;
  absl::flat_hash_map<uint64_t, int32_t> edges_;  // (node, byte) -> node
  std::vector<int32_t> ids_;                      // by node; -1: no token ends here
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_PREPARE_TRIE_H_
