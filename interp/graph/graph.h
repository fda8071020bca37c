// A model as a graph of edges through its residual stream (Elhage et al. 2021; Conmy et al. 2023).
//
// Writers put something on the stream: the embedding (positions included), and every mixer, or each
// of its heads where it has "hook_result". Readers take what stands there: every mixer, or each
// head of its parts where it reads in parts ("q.hook_in" before "hook_q", and so on; keys and
// values have n_kv_heads of them under grouped queries); and the logits. As the stream is a sum,
// every writer before a reader is an edge of its own. Nothing here knows an architecture: heads are
// counted in a run of one token.
//
//   names    "embed", "L3H5", "L3.mlp", "L3.mixer"; "L4H2.q", "L4.mlp", "logits"
//            an edge: "L3H5->L4H2.q"
//
// GPT-2 small: 157 writers, 445 readers, 32,491 edges.

#ifndef RESIDUAL_INTERP_GRAPH_GRAPH_H_
#define RESIDUAL_INTERP_GRAPH_GRAPH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "interp/graph/part_weights.h"
#include "models/stream/residual_model.h"

namespace residual {

struct GraphWriter {
  std::string name;
  int layer = -1, branch = 0;  // -1: the embedding
  int64_t head = -1;           // -1: the whole mixer
};

struct GraphReader {
  std::string name;
  int layer = 0, branch = 0;  // layer n_layers: the logits
  std::string part = {};      // "q": "hook_q" is made of "q.hook_in"; "": all of the mixer
  int64_t head = -1;
  int writers = 0;  // the first so many write before it
  int first_edge = 0;
};

class EdgeGraph {
 public:
  // Unimplemented for models with norms behind the sum (post-norm), where what is written does not
  // stay as it was.
  static absl::StatusOr<EdgeGraph> Of(const ResidualModel& model);

  // In the order of a run.
  const std::vector<GraphWriter>& writers() const { return writers_; }
  const std::vector<GraphReader>& readers() const { return readers_; }
  int edges() const { return edges_; }

  int ReaderOf(int edge) const;
  int WriterOf(int edge) const { return edge - readers_[ReaderOf(edge)].first_edge; }
  int EdgeOf(int writer, int reader) const { return readers_[reader].first_edge + writer; }
  std::string EdgeName(int edge) const;
  // NotFound, with the nearest.
  absl::StatusOr<int> FindEdge(const std::string& name) const;

  // The readers [first, second) of a mixer, and its writers.
  struct Range {
    int begin = 0, end = 0;
  };
  Range ReadersOf(int layer, int branch) const { return reader_ranges_[layer][branch]; }
  Range WritersOf(int layer, int branch) const { return writer_ranges_[layer][branch]; }
  // Of a mixer that reads in parts, part by part in the order of its readers: as the model's
  // weights were when the graph was made. Empty for others.
  const std::vector<PartWeights>& WeightsOf(int layer, int branch) const {
    return weights_[layer][branch];
  }
  // Writers whose output depends on this reader: all of a whole mixer, the head of a query, the
  // heads of its group of a key or value.
  Range WritersBehind(int reader) const;

 private:
  std::vector<GraphWriter> writers_;
  std::vector<GraphReader> readers_;
  int edges_ = 0;
  std::vector<std::vector<Range>> reader_ranges_, writer_ranges_;  // [layer][branch]
  std::vector<std::vector<std::vector<PartWeights>>> weights_;     // [layer][branch][part]
};

}  // namespace residual

#endif  // RESIDUAL_INTERP_GRAPH_GRAPH_H_
