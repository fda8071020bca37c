// Attribution patching (Nanda 2023; Syed et al. 2023): the first-order estimate of every patch at
// once, from one run forward and backward; and AtP* (Kramár et al. 2024), which repairs two ways in
// which that misses what matters.
//
// Two conventions are in use:
//   kCorrupted  (a_clean - a_corrupted) . dm/da on the corrupted run: what the metric gains by
//               the clean activation (TransformerLens; "denoising")
//   kClean      (a_corrupted - a_clean) . dm/da on the clean run: what it gains by the corrupted
//               one (EAP; "noising")
// Below, a' is the activation that is put in place of a.
//
// QK fix (their section 3.1.1, equations 7 to 10): where a softmax is saturated its derivative is
// near 0 while the change is large. For queries and keys the softmax is therefore made anew, and
// only from the pattern on is the estimate linear:
//   query i   sum_j (softmax(s(q', k))_ij - p_ij) dm/dp_ij
//   key j     the same over all queries i that see it, each with that one key replaced
// Exact where the metric is linear in the pattern.
//
// GradDrop (section 3.1.2, equation 11): effects through different layers may cancel out. For each
// of the L layers the gradient is taken with that layer's contribution to the stream (what its
// attention and its MLP add, at all positions) held as it was, and
//   c(n) = 1 / (L - 1) sum_l |(a' - a) . dm^l/da|
// of each example. Of points in layer l the term of l is 0, hence L - 1; the stream itself has L
// terms, which are divided by L - 1 as well. What comes out has no sign.

#ifndef RESIDUAL_INTERP_ATTRIBUTION_PATCH_ATTRIBUTION_H_
#define RESIDUAL_INTERP_ATTRIBUTION_PATCH_ATTRIBUTION_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "interp/metric/metric.h"
#include "interp/patch/session.h"

namespace residual {

struct AttributionOptions {
  PatchRun run = PatchRun::kCorrupted;
  // Of cells at hook_q, hook_k, hook_rot_q and hook_rot_k; others as without it.
  bool qk_fix = false;
  bool grad_drop = false;
};

// The estimated change of the metric by each patch, by example: [patch][example]. A patch of
// several cells is the sum of them. The run of the gradient is made once, on its tape; a session
// with options.plan_on the other run makes no run twice.
//
// InvalidArgument for a metric without a gradient, as PatchSession::Run, for the QK fix of a cell
// of single features (its softmax is of whole heads) and for GradDrop in a model of one layer;
// Unimplemented for points outside the blocks.
absl::StatusOr<std::vector<std::vector<double>>> AttributePatches(
    PatchSession& session, absl::Span<const Patch> patches, const Metric& metric,
    const AttributionOptions& options = {});

}  // namespace residual

#endif  // RESIDUAL_INTERP_ATTRIBUTION_PATCH_ATTRIBUTION_H_
