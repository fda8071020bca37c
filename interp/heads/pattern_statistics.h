// Where a head looks, whatever the tokens: numbers of its attention patterns.

#ifndef RESIDUAL_INTERP_HEADS_PATTERN_STATISTICS_H_
#define RESIDUAL_INTERP_HEADS_PATTERN_STATISTICS_H_

#include <vector>

#include "interp/heads/head_scores.h"
#include "tensor/core/tensor.h"

namespace residual {

// Means over rows and queries of a pattern P [query, key], [layer][head]. A query that attends to
// nothing (padding) does not count; a head without any other has zeros.
struct PatternStatistics {
  HeadTable entropy;        // -sum P log P, nats: 0 for one key, log n for n keys alike
  HeadTable mean_distance;  // sum P (query - key), tokens
  HeadTable first_token;    // P[., 0]: attention that rests on the first token
  HeadTable current_token;  // P[q, q]
};

// patterns: of ReadPatterns, [batch, n_heads, query, key] for each layer, or undefined.
PatternStatistics MeasurePatterns(const std::vector<Tensor>& patterns);

}  // namespace residual

#endif  // RESIDUAL_INTERP_HEADS_PATTERN_STATISTICS_H_
