#include "models/text/prepare/trie.h"

namespace residual {

TokenTrie::TokenTrie() : ids_(1, -1) { first_.fill(-1); }

void TokenTrie::Add(absl::string_view token, int32_t id) {
  int32_t node = 0;
  for (const char c : token) {
    const uint8_t byte = static_cast<uint8_t>(c);
    int32_t next = Next(node, byte);
    if (next < 0) {
      next = static_cast<int32_t>(ids_.size());
      ids_.push_back(-1);
      if (node == 0) {
        first_[byte] = next;
      } else {
        edges_.emplace(static_cast<uint64_t>(node) << 8 | byte, next);
      }
    }
    node = next;
  }
  if (node > 0) ids_[node] = id;
}

}  // namespace residual
