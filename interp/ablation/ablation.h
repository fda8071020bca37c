// Knocking heads out, and what a model loses by it.

#ifndef RESIDUAL_INTERP_ABLATION_ABLATION_H_
#define RESIDUAL_INTERP_ABLATION_ABLATION_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "interp/heads/head_scores.h"
#include "models/nn/hook.h"
#include "models/stream/residual_model.h"
#include "tensor/core/tensor.h"

namespace residual {

// Mean loss in nats at each position over the rows of tokens and targets [batch, pos]; positions
// without a target in any row are NaN. `ablated` heads are zeroed. InvalidArgument for tokens or
// heads that do not fit the model.
//
// Without `frozen` the heads above see the changed stream and may look elsewhere: all that depends
// on the head is gone. With `frozen`, the patterns ReadPatterns gives for these tokens, every other
// head looks where it looked in the intact model, so that what is missing is what the head itself
// writes: the pattern-preserving ablation of Olsson et al. 2022.
absl::StatusOr<std::vector<double>> LossByPosition(const ResidualModel& model, const Tensor& tokens,
                                                   const Tensor& targets,
                                                   const std::vector<HeadIndex>& ablated = {},
                                                   const std::vector<Tensor>& frozen = {});

// In-context learning score (Olsson et al. 2022; there loss[500] - loss[50] of 512): mean loss in
// the last eighth of the context minus mean loss between its 16th and its eighth part. Negative:
// the model uses what it has read.
double InContextScore(const std::vector<double>& loss_by_position);

// Draws `count` different sets of `size` heads out of `candidates` (fewer if there are fewer),
// a pure function of the seed.
std::vector<std::vector<HeadIndex>> RandomHeadSets(const std::vector<HeadIndex>& candidates,
                                                   size_t size, size_t count, uint64_t seed);

}  // namespace residual

#endif  // RESIDUAL_INTERP_ABLATION_ABLATION_H_
