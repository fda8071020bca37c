// Head detectors on tokens of any kind, as TransformerLens's detect_head has them: how well a
// head's attention pattern P agrees with the pattern D of an ideal head, both [query, key].
//
//   previous token   D = 1 where key = query - 1
//   duplicate token  D = 1 where the key's token is the query's, key < query
//   induction        D = 1 where the token before the key is the query's, key <= query: the
//                    duplicate-token pattern moved one key to the right
//   kMul  sum(P D) / sum(P)        the share of the attention that is where it should be
//   kAbs  1 - pos mean(|P - D|)    at most 1; TransformerLens rounds the second term to three
//                                  decimals, this does not
// A query may have no such key, so a perfect head scores below 1 under kMul; on a passage of random
// tokens repeated once ScoreHeads is the cleaner measure.

#ifndef RESIDUAL_INTERP_HEADS_DETECT_H_
#define RESIDUAL_INTERP_HEADS_DETECT_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "interp/heads/head_scores.h"
#include "tensor/core/tensor.h"

namespace residual {

enum class HeadKind { kPreviousToken, kDuplicateToken, kInduction };
enum class DetectMeasure { kMul, kAbs };

struct DetectOptions {
  DetectMeasure measure = DetectMeasure::kMul;
  bool exclude_bos = false;            // leave out the first key
  bool exclude_current_token = false;  // leave out key = query
};

// D for one row of tokens: 0 or 1, row-major [pos, pos].
std::vector<double> DetectionPattern(HeadKind kind, absl::Span<const int64_t> tokens);

// The mean over rows for every head, from the patterns that ReadPatterns gives for these tokens
// [batch, pos]. kMul is 0 for a head whose attention is all left out.
HeadTable DetectHeads(const std::vector<Tensor>& patterns, const Tensor& tokens, HeadKind kind,
                      const DetectOptions& options = {});

// `batch` rows of a first token (drawn too, unless given) and n tokens of the vocabulary, twice:
// i64 [batch, 1 + 2 n].
Tensor RepeatedTokensAfterFirst(int64_t batch, int64_t n, absl::Span<const int64_t> vocabulary,
                                uint64_t seed, std::optional<int64_t> first = std::nullopt);

// Whether every row of tokens [batch, pos] is a first token and a passage of two tokens or more,
// twice.
bool IsRepeatedAfterFirst(const Tensor& tokens);

// The mean of the diagonal key = query - (n - 1) of the patterns for tokens [batch, 1 + 2 n]: a
// first token, then a passage of n tokens twice. The induction stripe of TransformerLens's demo;
// the diagonal begins in the first copy, where there is nothing to find. CHECKs that pos is odd
// and at least 5.
HeadTable InductionStripes(const std::vector<Tensor>& patterns);

}  // namespace residual

#endif  // RESIDUAL_INTERP_HEADS_DETECT_H_
