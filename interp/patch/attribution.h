// Attribution patching (Nanda 2023; Syed et al. 2023): the first-order estimate of every patch at
// once, from one run forward and backward.
//
// Two conventions are in use:
//   kCorrupted  (a_clean - a_corrupted) . dm/da on the corrupted run: what the metric gains by
//               the clean activation (TransformerLens; "denoising")
//   kClean      (a_corrupted - a_clean) . dm/da on the clean run: what it gains by the corrupted
//               one (EAP; "noising")

#ifndef RESIDUAL_INTERP_PATCH_ATTRIBUTION_H_
#define RESIDUAL_INTERP_PATCH_ATTRIBUTION_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "interp/metric/metric.h"
#include "interp/patch/session.h"

namespace residual {

enum class GradientRun { kCorrupted, kClean };

// The estimated change of the metric by each patch, by example: [patch][example]. A patch of
// several cells is the sum of them. InvalidArgument for a metric without a gradient, and as
// PatchSession::Run; Unimplemented for points outside the blocks.
absl::StatusOr<std::vector<std::vector<double>>> AttributePatches(
    PatchSession& session, absl::Span<const Patch> patches, const Metric& metric,
    GradientRun gradient = GradientRun::kCorrupted);

}  // namespace residual

#endif  // RESIDUAL_INTERP_PATCH_ATTRIBUTION_H_
