// What every edge of a graph is worth: exactly, or to first order for all of them at once.
//
//   exact            metric(run with the edge patched) - metric(run): a run for each edge
//   EAP              (other_w - own_w) . g_r                                 Syed et al. 2023
//   EAP-IG, inputs   g_r averaged over runs whose embeddings lie k/m of the way from the corrupted
//                    ones to the clean ones, k = 0 .. m-1                    Hanna et al. 2024
//   EAP-IG, activations   the same, but what lies on the way is what the edge's writer (its mixer)
//                    wrote, in a run that is else as it was                  ibid.
//   clean-corrupted  the mean of g_r on both inputs                          ibid.
//
// g_r is the gradient of the metric at what reader r reads. Both signs are in use:
//   kClean      the run is the clean one and edges carry what writers wrote on the corrupted input:
//               scores are (corrupted_w - clean_w) . g_r, what the metric gains by breaking the
//               edge
//               ("noising"; EAP-IG)
//   kCorrupted  the other way round: (clean_w - corrupted_w) . g_r, what it gains by mending it
//               ("denoising"; TransformerLens)
// A writer's edges of EAP add up to the attribution of its activation (interp/attribution_patch).

#ifndef RESIDUAL_INTERP_GRAPH_EDGE_SCORES_H_
#define RESIDUAL_INTERP_GRAPH_EDGE_SCORES_H_

#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "interp/graph/graph_run.h"
#include "interp/metric/metric.h"
#include "interp/patch/session.h"

namespace residual {

// The same prompts twice, and the graph they are seen through.
struct EdgePair {
  GraphRun clean, corrupted;
  const GraphRun& run(PatchRun which) const {
    return which == PatchRun::kClean ? clean : corrupted;
  }
  const GraphRun& other(PatchRun which) const {
    return which == PatchRun::kClean ? corrupted : clean;
  }
};
// InvalidArgument for inputs that the model cannot read or that are not of one shape.
absl::StatusOr<EdgePair> MakeEdgePair(const ResidualModel& model, const EdgeGraph& graph,
                                      const ModelInput& clean, const ModelInput& corrupted);

enum class EdgeMethod { kEap, kEapIgInputs, kEapIgActivations, kCleanCorrupted };

struct EdgeScoreOptions {
  EdgeMethod method = EdgeMethod::kEap;
  PatchRun run = PatchRun::kClean;
  int steps = 5;  // m of EAP-IG
};

// [edge][example].
using EdgeScores = std::vector<std::vector<double>>;

// InvalidArgument for a metric that does not fit or has no gradient, or steps < 1.
absl::StatusOr<EdgeScores> ScoreEdges(const EdgePair& pair, const Metric& metric,
                                      const EdgeScoreOptions& options = {});

// By runs, for these edges. `progress`: edges done so far.
absl::StatusOr<EdgeScores> ExactEdgeScores(const EdgePair& pair, const Metric& metric,
                                           absl::Span<const int> edges,
                                           PatchRun run = PatchRun::kClean,
                                           const std::function<void(size_t)>& progress = nullptr);

// Over the examples.
std::vector<double> MeanScores(const EdgeScores& scores);

}  // namespace residual

#endif  // RESIDUAL_INTERP_GRAPH_EDGE_SCORES_H_
