// Gradients of a metric at hook points inside the blocks, of a run and of the same run with the
// contribution of one layer after the other dropped. Private to the package.

#ifndef RESIDUAL_INTERP_ATTRIBUTION_PATCH_GRADIENTS_H_
#define RESIDUAL_INTERP_ATTRIBUTION_PATCH_GRADIENTS_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "interp/metric/metric.h"
#include "interp/patch/session.h"
#include "tensor/core/tensor.h"

namespace residual {

// By point: one gradient, of the activation's shape, or one for each layer that was dropped, the
// first layer first.
using PointGradients = std::map<std::string, std::vector<Tensor>>;

// d metric / d activation on one of the session's runs; of the sum over examples, which do not
// meet, so that it holds those of each. The run is made here, on a tape, and the session learns
// what these points and `read` held. Points as Plan knows them, inside the blocks.
PointGradients GradientsAt(PatchSession& session, PatchRun which,
                           const std::vector<std::string>& points,
                           const std::vector<std::string>& read, const Metric& metric);

// The same with layer l's contribution held as it was, for each l: no gradient goes through what
// its mixers add to the stream, at any position, so that those of points inside that layer are 0.
//
// One run forward; then block after block from the last one down, each forward once more and
// backward, with a copy of its rows for every layer dropped so far: n(n+3)/2 blocks of rows for n
// layers, as products of many rows, in place of n runs back. Rows that are together more than
// `positions_at_once` go in several passes.
absl::StatusOr<PointGradients> GradientsWithDrops(PatchSession& session, PatchRun which,
                                                  const std::vector<std::string>& points,
                                                  const Metric& metric,
                                                  int64_t positions_at_once = 2048);

}  // namespace residual

#endif  // RESIDUAL_INTERP_ATTRIBUTION_PATCH_GRADIENTS_H_
