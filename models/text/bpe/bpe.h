// Byte-pair encoding (Sennrich et al. 2016): a piece starts as its bytes or characters; the
// neighbours whose merge has the lowest rank are merged (of equals the leftmost) until no merge
// applies.

#ifndef RESIDUAL_MODELS_TEXT_BPE_BPE_H_
#define RESIDUAL_MODELS_TEXT_BPE_BPE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "models/text/token_model.h"

namespace residual {

struct BpeMerge {
  int32_t left, right, result;
};

struct BpeOptions {
  bool bytes = true;           // a piece starts as bytes; false: as characters
  bool byte_fallback = false;  // a character without a token becomes its bytes' tokens "<0xE2>"
  std::optional<int32_t> unk;  // or else this token; none: it is left out
  bool fuse_unk = false;       // one unk for several such characters in a row
  bool ignore_merges = false;  // a piece that is a token is that token, whatever the merges say
};

using TokenIds = absl::flat_hash_map<std::string, int32_t>;

// ids: the id of every token's bytes. merges: rank is the place in the list; of a pair given twice
// the later counts. Time to encode n symbols: O(n log n).
std::unique_ptr<TokenModel> MakeBpe(TokenIds ids, const std::vector<BpeMerge>& merges,
                                    const BpeOptions& options);

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_BPE_BPE_H_
