// Runs of some of a model's layers: from a given stream on, up to a layer, or both. Blocks outside
// are not run.
//
//   PartialRun below;
//   below.stop_at_layer = 3;
//   RESIDUAL_ASSIGN_OR_RETURN(Tensor resid, RunLayers(model, input, below));   // enters block 3
//   PartialRun rest;
//   rest.start_at_layer = 3;
//   rest.resid = edited;
//   RESIDUAL_ASSIGN_OR_RETURN(Tensor logits, RunLayers(model, input, rest, &hooks));

#ifndef RESIDUAL_INTERP_CACHE_PARTIAL_RUN_H_
#define RESIDUAL_INTERP_CACHE_PARTIAL_RUN_H_

#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "models/nn/hook.h"
#include "models/stream/residual_model.h"
#include "tensor/core/tensor.h"

namespace residual {

struct PartialRun {
  // The stream that enters this block, [batch, pos, d_model] of the model's dtype; undefined: the
  // embeddings, and the run begins at block 0.
  int start_at_layer = 0;
  Tensor resid = {};
  // The block that is not run any more: the result is the stream that would enter it. n_layers: the
  // stream after the last; negative: counted from there (-1: the last block). Unset: the logits.
  std::optional<int> stop_at_layer = std::nullopt;
};

// The layers of a run, and what goes before and after them.
struct LayersRun {
  LayerRange layers;
  bool embeds = true, unembeds = true;
};

// InvalidArgument for layers that there are not or in the wrong order, a start without a stream, a
// stream of another shape or dtype or that holds NaN, and input that does not fit.
absl::StatusOr<LayersRun> CheckPartialRun(const ResidualModel& model, const ModelInput& input,
                                          const PartialRun& part);

// Whether a hook point of the model fires in such a run.
bool FiresIn(const ResidualModel& model, const LayersRun& run, absl::string_view point);

// Whether it fires behind the last block: on the way to the logits.
bool IsBehindBlocks(absl::string_view point);

// The logits, or the stream that enters block stop_at_layer, [batch, pos, d_model]. The input's
// tokens are those of the whole run: they say how long it is, mask and positions with them.
// `hooks`: as ResidualModel::Run, of points that fire in these layers (NotFound or InvalidArgument
// else).
absl::StatusOr<Tensor> RunLayers(const ResidualModel& model, const ModelInput& input,
                                 const PartialRun& part, Hooks* hooks = nullptr);

}  // namespace residual

#endif  // RESIDUAL_INTERP_CACHE_PARTIAL_RUN_H_
