// Learning the merges of a byte-level byte-pair encoding.

#ifndef RESIDUAL_MODELS_TEXT_BPE_BPE_TRAINER_H_
#define RESIDUAL_MODELS_TEXT_BPE_BPE_TRAINER_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace residual {

struct LearnedBpe {
  std::vector<std::string> tokens;                  // bytes by id; the first 256 are the bytes
  std::vector<std::pair<int32_t, int32_t>> merges;  // (left id, right id) by rank
};

// See TrainBpe in tokenizer.h for the rule. Counts of pairs are kept up to date merge by merge, and
// a merge visits only the places where its pair stands: O(n log n) for a text of n bytes, also
// where it is one single word. The text has fewer than 2^31 bytes.
LearnedBpe LearnBpe(absl::string_view text, int64_t vocab_size);

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_BPE_BPE_TRAINER_H_
