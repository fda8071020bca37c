// Where heads look, weighed by what is there to be moved.
//
// A head may rest its attention on a token whose value is almost zero: it looks there and moves
// nothing. Elhage et al. 2021 therefore show A_ij |v_j| in place of A_ij ("value-weighted attention
// pattern").

#ifndef RESIDUAL_INTERP_HEADS_VALUE_WEIGHTED_H_
#define RESIDUAL_INTERP_HEADS_VALUE_WEIGHTED_H_

#include <vector>

#include "absl/status/statusor.h"
#include "interp/heads/head_scores.h"
#include "models/stream/residual_model.h"
#include "tensor/core/tensor.h"

namespace residual {

// A_ij |v_j| with rows scaled to sum to 1 (or 0, where nothing is moved), as ReadPatterns gives the
// patterns themselves: [batch, n_heads, query, key] of each layer, f64; undefined for a layer
// without attention. With grouped queries a head has the values of its group.
absl::StatusOr<std::vector<Tensor>> ReadValueWeightedPatterns(const ResidualModel& model,
                                                              const Tensor& tokens);

// Prefix matching on tokens [batch, pos] of any kind: the weight that a query puts on all keys
// behind an earlier occurrence of its token, the mean over those queries of all rows that have one.
// 0 where none has.
HeadTable PrefixMatching(const std::vector<Tensor>& patterns, const Tensor& tokens);

}  // namespace residual

#endif  // RESIDUAL_INTERP_HEADS_VALUE_WEIGHTED_H_
