// Runs of a model in which every edge of its graph can carry something else (edge patching, Conmy
// et al. 2023; Goldowsky-Dill et al. 2023), and gradients at every reader.
//
// A reader takes the stream plus, for each edge that carries something else, what the other writer
// wrote minus what the writer wrote in this run:
//
//   read_r = x + sum over edges (w, r) from elsewhere of (other_w - own_w)
//
// so edges are exact, norms included. Heads that read the same are read together; a run begins at
// the first layer where something differs.

#ifndef RESIDUAL_INTERP_GRAPH_GRAPH_RUN_H_
#define RESIDUAL_INTERP_GRAPH_GRAPH_RUN_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "interp/graph/graph.h"
#include "interp/metric/metric.h"
#include "models/stream/residual_model.h"
#include "tensor/core/tensor.h"

namespace residual {

// What every writer of the graph wrote, [batch, pos, d_model] each.
using WriterOutputs = std::vector<Tensor>;

class GraphRun {
 public:
  // Model and graph outlive it. InvalidArgument for input the model cannot read, or with segments.
  static absl::StatusOr<GraphRun> Create(const ResidualModel& model, const EdgeGraph& graph,
                                         const ModelInput& input);

  // Of the run as it is.
  const WriterOutputs& outputs() const { return outputs_; }
  const Tensor& resid() const { return streams_.back(); }  // after the last block
  // What a mixer added: its heads' outputs and its bias.
  const Tensor& MixerOutput(int layer, int branch) const { return added_[layer][branch]; }

  // The stream that the logits read when edge e carries what its writer wrote in this run (from[e]
  // = 0), or what `others[from[e] - 1]` say. One number per edge.
  Tensor Run(absl::Span<const uint8_t> from, absl::Span<const WriterOutputs* const> others) const;

  // The metric of every example.
  std::vector<double> Value(const Metric& metric, const Tensor& resid) const;

  // In place of what a writer site wrote, [batch, pos, d_model]: layer -1 is the embedding.
  struct Site {
    int layer = -1, branch = 0;
    Tensor value;  // undefined: nothing is replaced
  };
  // The gradient of the metric's sum at what the readers behind the site read, the norm before it
  // included, mixer by mixer: got(range of readers, [readers, batch, pos, d_model]). A run begins
  // at its site. InvalidArgument for a metric without a gradient.
  absl::Status ReaderGradients(
      const Metric& metric, const Site& site,
      const std::function<void(EdgeGraph::Range, const Tensor&)>& got) const;

  const ModelInput& input() const { return input_; }
  const EdgeGraph& graph() const { return graph_; }
  const ResidualModel& model() const { return model_; }
  int64_t batch() const { return input_.tokens.dim(0); }

 private:
  GraphRun(const ResidualModel& model, const EdgeGraph& graph, const ModelInput& input);
  MixerContext ContextOf(int layer, int64_t times) const;
  // What is added to what readers read, [readers, batch, pos, d_model], from where their edges
  // carry.
  Tensor Deltas(const std::vector<absl::Span<const uint8_t>>& from,
                absl::Span<const WriterOutputs* const> others, const WriterOutputs& own) const;
  // Walks the blocks from `layer` on; `keep` remembers the streams and what mixers add.
  Tensor Walk(int layer, Tensor resid, absl::Span<const uint8_t> from,
              absl::Span<const WriterOutputs* const> others, WriterOutputs& own,
              GraphRun* keep) const;
  // Gradients at the reads of one mixer, from those at its parts [batch, pos, heads, d_head].
  Tensor ThroughParts(int layer, int branch, const Tensor& read,
                      const std::vector<Tensor>& part_gradients) const;

  const ResidualModel& model_;
  const EdgeGraph& graph_;
  ModelInput input_;
  WriterOutputs outputs_;
  std::vector<Tensor> streams_;             // before each block, and after the last
  std::vector<std::vector<Tensor>> added_;  // [layer][branch]
};

}  // namespace residual

#endif  // RESIDUAL_INTERP_GRAPH_GRAPH_RUN_H_
