#include "interp/graph/edge_scores.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ops/elementwise/elementwise.h"
#include "ops/layout/layout.h"
#include "ops/matmul/matmul.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

// Adds weight * (difference_w . g_r) to the edges of these readers from the writers in [from, to).
class Products {
 public:
  Products(const EdgeGraph& graph, const WriterOutputs& other, const WriterOutputs& own)
      : graph_(graph) {
    const Tensor& any = own[0];
    const int64_t batch = any.dim(0), width = any.dim(1) * any.dim(2);
    for (int64_t b = 0; b < batch; ++b) {
      std::vector<Tensor> rows;
      for (size_t w = 0; w < own.size(); ++w) {
        rows.push_back(Sub(other[w].Row(b), own[w].Row(b)).Reshaped({1, width}));
      }
      differences_.push_back(Concat(rows, 0));
    }
  }

  void Add(EdgeGraph::Range readers, const Tensor& g, double weight, EdgeGraph::Range writers,
           EdgeScores& scores) const {
    const int from = writers.begin;
    const int to = std::min(writers.end, graph_.readers()[readers.begin].writers);
    if (from >= to) return;
    const int64_t batch = g.dim(1), width = g.dim(2) * g.dim(3);
    for (int64_t b = 0; b < batch; ++b) {
      const Tensor at = Slice(g, 1, b, b + 1).Reshaped({g.dim(0), width});
      MatMulOptions options;
      options.transpose_b = true;
      const std::vector<double> products =
          MatMul(at, differences_[b].Rows(from, to), options).ToDoubles();  // [readers, writers]
      for (int r = readers.begin; r < readers.end; ++r) {
        for (int w = from; w < to; ++w) {
          scores[graph_.EdgeOf(w, r)][b] +=
              weight * products[(r - readers.begin) * (to - from) + w - from];
        }
      }
    }
  }

 private:
  const EdgeGraph& graph_;
  std::vector<Tensor> differences_;  // of each example, [writers, pos * d_model]
};

// a + share (b - a).
Tensor Between(const Tensor& a, const Tensor& b, double share) {
  return Add(a, Scale(Sub(b, a), share));
}

// What a site wrote in all; heads and what their mixer adds to them besides.
Tensor Written(const GraphRun& run, EdgeGraph::Range writers) {
  Tensor sum = run.outputs()[writers.begin];
  for (int w = writers.begin + 1; w < writers.end; ++w) sum = Add(sum, run.outputs()[w]);
  return sum;
}

}  // namespace

absl::StatusOr<EdgePair> MakeEdgePair(const ResidualModel& model, const EdgeGraph& graph,
                                      const ModelInput& clean, const ModelInput& corrupted) {
  const auto run = [&](const char* which, const ModelInput& input) -> absl::StatusOr<GraphRun> {
    absl::StatusOr<GraphRun> made = GraphRun::Create(model, graph, input);
    if (made.ok()) return made;
    return absl::Status(made.status().code(), absl::StrCat(which, ": ", made.status().message()));
  };
  RESIDUAL_ASSIGN_OR_RETURN(GraphRun clean_run, run("clean", clean));
  RESIDUAL_ASSIGN_OR_RETURN(GraphRun corrupted_run, run("corrupted", corrupted));
  if (clean.tokens.shape() != corrupted.tokens.shape()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "clean prompts are ", clean.tokens.shape().ToString(), " and corrupted ones ",
        corrupted.tokens.shape().ToString(), ", expected pairs of equal length [batch, pos]"));
  }
  return EdgePair{std::move(clean_run), std::move(corrupted_run)};
}

absl::StatusOr<EdgeScores> ScoreEdges(const EdgePair& pair, const Metric& metric,
                                      const EdgeScoreOptions& options) {
  const GraphRun& run = pair.run(options.run);
  const GraphRun& other = pair.other(options.run);
  const EdgeGraph& graph = run.graph();
  RESIDUAL_RETURN_IF_ERROR(
      CheckMetric(metric, run.model(), run.batch(), run.input().tokens.dim(1)));
  const bool integrated =
      options.method == EdgeMethod::kEapIgInputs || options.method == EdgeMethod::kEapIgActivations;
  if (integrated && options.steps < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("integrated gradients of ", options.steps, " steps, expected at least 1"));
  }
  const Products products(graph, other.outputs(), run.outputs());
  const EdgeGraph::Range all{0, static_cast<int>(graph.writers().size())};
  EdgeScores scores(graph.edges(), std::vector<double>(run.batch(), 0));
  // The gradients of one run, for the edges of some writers.
  const auto add = [&](const GraphRun& at, const GraphRun::Site& site, double weight,
                       EdgeGraph::Range writers) {
    return at.ReaderGradients(metric, site, [&](EdgeGraph::Range readers, const Tensor& g) {
      products.Add(readers, g, weight, writers, scores);
    });
  };
  const double step = 1.0 / options.steps;
  switch (options.method) {
    case EdgeMethod::kEap:
      RESIDUAL_RETURN_IF_ERROR(add(run, {}, 1, all));
      break;
    case EdgeMethod::kCleanCorrupted:
      RESIDUAL_RETURN_IF_ERROR(add(run, {}, 0.5, all));
      RESIDUAL_RETURN_IF_ERROR(add(other, {}, 0.5, all));
      break;
    case EdgeMethod::kEapIgInputs:
      for (int k = 0; k < options.steps; ++k) {
        GraphRun::Site site;
        site.value = Between(pair.corrupted.outputs()[0], pair.clean.outputs()[0], k * step);
        RESIDUAL_RETURN_IF_ERROR(add(run, site, step, all));
      }
      break;
    case EdgeMethod::kEapIgActivations:
      for (int layer = -1; layer < run.model().n_layers(); ++layer) {
        const int branches =
            layer < 0 ? 1 : static_cast<int>(run.model().block(layer).branches().size());
        for (int branch = 0; branch < branches; ++branch) {
          const EdgeGraph::Range writers =
              layer < 0 ? EdgeGraph::Range{0, 1} : graph.WritersOf(layer, branch);
          // What the mixer adds besides its heads' outputs is the same in all runs, and has to be
          // there.
          Tensor rest;
          if (graph.writers()[writers.begin].head >= 0) {
            rest = Sub(run.MixerOutput(layer, branch), Written(run, writers));
          }
          for (int k = 0; k < options.steps; ++k) {
            GraphRun::Site site{layer, branch, {}};
            site.value =
                Between(Written(pair.corrupted, writers), Written(pair.clean, writers), k * step);
            if (rest.defined()) site.value = Add(site.value, rest);
            RESIDUAL_RETURN_IF_ERROR(add(run, site, step, writers));
          }
        }
      }
      break;
  }
  return scores;
}

absl::StatusOr<EdgeScores> ExactEdgeScores(const EdgePair& pair, const Metric& metric,
                                           absl::Span<const int> edges, PatchRun which,
                                           const std::function<void(size_t)>& progress) {
  const GraphRun& run = pair.run(which);
  RESIDUAL_RETURN_IF_ERROR(
      CheckMetric(metric, run.model(), run.batch(), run.input().tokens.dim(1)));
  const std::vector<double> before = run.Value(metric, run.resid());
  EdgeScores scores;
  std::vector<uint8_t> from(run.graph().edges(), 0);
  for (const int edge : edges) {
    from[edge] = 1;
    scores.push_back(run.Value(metric, run.Run(from, {&pair.other(which).outputs()})));
    from[edge] = 0;
    for (size_t e = 0; e < before.size(); ++e) scores.back()[e] -= before[e];
    if (progress) progress(scores.size());
  }
  return scores;
}

std::vector<double> MeanScores(const EdgeScores& scores) {
  std::vector<double> means;
  for (const std::vector<double>& of_edge : scores) {
    double sum = 0;
    for (const double score : of_edge) sum += score;
    means.push_back(sum / static_cast<double>(of_edge.size()));
  }
  return means;
}

}  // namespace residual
