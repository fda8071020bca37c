// Circuits: which edges do a task, and how well they do it alone.
//
// A circuit keeps some edges; on the clean input all others carry what their writers wrote on the
// corrupted one. Faithful is the share of the behaviour that is left (Wang et al. 2023; Miller et
// al. 2024):
//
//   faithfulness = (m(circuit) - m(corrupted)) / (m(clean) - m(corrupted))
//
// It depends on the metric and on what stands in for the rest: each value here is of one of both.

#ifndef RESIDUAL_INTERP_GRAPH_CIRCUIT_H_
#define RESIDUAL_INTERP_GRAPH_CIRCUIT_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "interp/graph/edge_scores.h"
#include "interp/metric/metric.h"

namespace residual {

// The edges with the `count` largest |score|, the largest first; of equal ones the first.
std::vector<int> TopEdges(absl::Span<const double> scores, int count);

struct CircuitValue {
  int edges = 0;
  std::vector<double> by_example;  // the metric
  double mean = 0, faithfulness = 0;
};

// InvalidArgument for an edge that is not there or a metric that does not fit. The faithfulness is
// NaN where the clean and the corrupted run have the same metric.
absl::StatusOr<CircuitValue> EvaluateCircuit(const EdgePair& pair, const Metric& metric,
                                             absl::Span<const int> circuit);

// 1, 2, 5, 10, 20, .. below `edges`, and `edges`.
std::vector<int> CurveSizes(int edges);

// Of the best edges by score, in these numbers.
absl::StatusOr<std::vector<CircuitValue>> FaithfulnessCurve(const EdgePair& pair,
                                                            const Metric& metric,
                                                            absl::Span<const double> scores,
                                                            absl::Span<const int> sizes);

// The control: as many edges drawn at random, `sets` times, a pure function of the seed.
struct RandomCircuits {
  double circuit = 0;          // faithfulness
  std::vector<double> random;  // of each set
  double p_value = 1;          // share of sets as faithful or more, the circuit among them
};
absl::StatusOr<RandomCircuits> CompareWithRandom(const EdgePair& pair, const Metric& metric,
                                                 absl::Span<const int> circuit, int sets = 100,
                                                 uint64_t seed = 0);

// Automatic circuit discovery (Conmy et al. 2023). From the logits back every edge is patched on
// top of what was patched before, and stays so if the mean metric rises by less than `threshold`:
// the metric is one that is small where nothing is lost (KlDivergence from the clean run, a loss).
// Readers of which nothing is read any more lose their edges without a run.
struct AcdcOptions {
  double threshold = 0.01;
  std::function<void(int done, int all)> progress;  // edges
};
struct AcdcResult {
  std::vector<int> circuit;  // edges that are kept, in order
  std::vector<double> rise;  // [edge] of the metric when it was tried; 0 where no run was made
  double metric = 0;         // of the circuit
  int64_t runs = 0;
};
absl::StatusOr<AcdcResult> Acdc(const EdgePair& pair, const Metric& metric,
                                const AcdcOptions& options = {});

// Resampling, as causal scrubbing does it (Chan et al. 2022), one level deep: every writer's output
// is replaced, on edges outside the circuit by what it wrote for another row of the prompts, any
// row; on edges of the circuit, if rows have labels, by what it wrote for a row with the same
// label. A hypothesis "these edges matter, and of the input only the label does" is kept if the
// metric is.
struct ScrubOptions {
  int samples = 16;
  uint64_t seed = 0;
  std::vector<int64_t> labels;  // of each row; empty: edges of the circuit are left alone
};
struct ScrubResult {
  double clean = 0;             // mean metric of the run as it is
  std::vector<double> samples;  // mean metric of each
  double mean = 0;
  // (mean - m(all edges from any row)) / (clean - m(all edges from any row)).
  double recovered = 0;
};
// InvalidArgument for fewer than two rows, or labels of another number.
absl::StatusOr<ScrubResult> Scrub(const GraphRun& run, const Metric& metric,
                                  absl::Span<const int> circuit, const ScrubOptions& options = {});

}  // namespace residual

#endif  // RESIDUAL_INTERP_GRAPH_CIRCUIT_H_
