// Sweeps: a patch for every layer, and position, head, key or unit, of one kind of activation.
//
//   by         resid_pre, mlp_out, ..   z, q, k, v            pattern
//   layer      [L]                      [L]                   [L]
//   pos        [L, pos]                 [L, pos]              [L, query]
//   head                                [L, head]             [L, head]
//   head_pos                            [L, pos, head]        [L, head, query]
//   head_pos_key                                              [L, head, query, key]
//   unit       [L, d_model]             [L, d_head]
//
// Axes come in the activation's own order behind the layer, as in TransformerLens's sweeps, of
// which these are all: get_act_patch_{resid_pre, resid_mid, attn_out, mlp_out} by pos;
// attn_head_{out, q, k, v}_by_pos and _pattern_by_pos by head_pos, _pattern_dest_src_pos by
// head_pos_key; attn_head_{out, q, k, v, pattern}_all_pos by head; block_every by pos; head_every
// by head or head_pos. "out" is z there. Keys and values have n_kv_heads heads.

#ifndef RESIDUAL_INTERP_PATCH_SWEEP_H_
#define RESIDUAL_INTERP_PATCH_SWEEP_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "interp/patch/session.h"
#include "tensor/core/tensor.h"

namespace residual {

struct Sweep {
  std::vector<std::string> axes;  // "layer", "pos", "head", .. ; "kind" first for a stack
  Shape shape;
  std::vector<Patch> patches;
  std::vector<int64_t> places;  // of the patches, in a row-major tensor of this shape
  // What is in places without a patch: NaN where a layer has no such point, or fewer heads than
  // others; 0 in a stack's heads that keys and values lack, as TransformerLens has it.
  double filling = 0;
  // A value per patch.
  Tensor ToTensor(const std::vector<double>& values) const;
};

// kind: what follows "blocks.L." in a hook's name ("attn.hook_z"), or its end, with or without
// "hook_" ("z", "resid_pre", "ln1.scale"), or that of a point outside the blocks ("embed"); or a
// stack, "block_every" or "head_every". by: names of axes, joined by '_': layer, pos (or query,
// dest), head, key (or src), unit (or neuron, channel). InvalidArgument, with the nearest, for what
// there is not.
absl::StatusOr<Sweep> PlanSweep(PatchSession& session, const std::string& kind,
                                const std::string& by);

// The mean over examples of Run's values.
std::vector<double> Means(const std::vector<std::vector<double>>& values);

}  // namespace residual

#endif  // RESIDUAL_INTERP_PATCH_SWEEP_H_
