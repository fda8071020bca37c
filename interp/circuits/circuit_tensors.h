// All that is said of a model's circuits, as named tensors: what //tools:circuits writes.
//
//   OV.singular_values, QK.singular_values           [n_layers, n_heads, d_head]
//   OV.copying_score, QK.copying_score               [n_layers, n_heads]
//   full_OV.copying_score, full_QK.copying_score     [n_layers, n_heads]
//   composition.Q, .K, .V, and .Q.deviations, ...    [n_layers, n_heads, n_layers, n_heads]
//
// float32, as wide as the widest layer; NaN where a layer has no such head.

#ifndef RESIDUAL_INTERP_CIRCUITS_CIRCUIT_TENSORS_H_
#define RESIDUAL_INTERP_CIRCUITS_CIRCUIT_TENSORS_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "interp/circuits/composition.h"
#include "interp/circuits/head_circuits.h"
#include "interp/heads/head_scores.h"
#include "tensor/core/tensor.h"

namespace residual {

// A pair of heads that compose.
struct ComposedPair {
  HeadIndex from, to;
  double score = 0, deviations = 0;  // as in CompositionScores
};

// The `count` pairs whose scores lie the most standard deviations above chance, those first.
std::vector<ComposedPair> TopPairs(const CompositionScores& scores, int64_t count);

struct CircuitTensors {
  std::map<std::string, Tensor> tensors;
  // "Q" and its pairs, for each composition that was computed.
  std::vector<std::pair<std::string, std::vector<ComposedPair>>> top_pairs;
  // What was computed together, and how long it took.
  std::vector<std::pair<std::string, double>> seconds;
};

// The names above, in that order.
std::vector<std::string> CircuitTensorNames();

// Those tensors whose names are wanted; the others cost nothing.
CircuitTensors ComputeCircuitTensors(const HeadCircuits& circuits,
                                     absl::FunctionRef<bool(const std::string&)> wanted,
                                     int64_t n_top_pairs = 5);

}  // namespace residual

#endif  // RESIDUAL_INTERP_CIRCUITS_CIRCUIT_TENSORS_H_
