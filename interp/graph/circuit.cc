#include "interp/graph/circuit.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "ops/embedding/embedding.h"
#include "tensor/base/random.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

double MeanOf(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// From where each edge carries: 1, but 0 (its own run) in the circuit.
absl::StatusOr<std::vector<uint8_t>> AllBut(const EdgeGraph& graph, absl::Span<const int> circuit) {
  std::vector<uint8_t> from(graph.edges(), 1);
  for (const int edge : circuit) {
    if (edge < 0 || edge >= graph.edges()) {
      return absl::InvalidArgumentError(
          absl::StrCat("edge ", edge, " is outside [0, ", graph.edges(), ")"));
    }
    from[edge] = 0;
  }
  return from;
}

// A permutation of [0, n): the first `count` of it.
std::vector<int64_t> Draw(int64_t n, int64_t count, uint64_t seed, uint64_t stream) {
  const Philox random(seed, stream);
  std::vector<int64_t> order(n);
  std::iota(order.begin(), order.end(), int64_t{0});
  for (int64_t i = 0; i < count; ++i) {
    std::swap(order[i], order[i + static_cast<int64_t>(random.Below(i, n - i))]);
  }
  order.resize(count);
  return order;
}

absl::Status CheckFits(const GraphRun& run, const Metric& metric) {
  return CheckMetric(metric, run.model(), run.batch(), run.input().tokens.dim(1));
}

}  // namespace

std::vector<int> TopEdges(absl::Span<const double> scores, int count) {
  std::vector<int> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return std::abs(scores[a]) > std::abs(scores[b]); });
  order.resize(std::min<size_t>(order.size(), std::max(0, count)));
  return order;
}

absl::StatusOr<CircuitValue> EvaluateCircuit(const EdgePair& pair, const Metric& metric,
                                             absl::Span<const int> circuit) {
  RESIDUAL_RETURN_IF_ERROR(CheckFits(pair.clean, metric));
  RESIDUAL_ASSIGN_OR_RETURN(const auto from, AllBut(pair.clean.graph(), circuit));
  CircuitValue value;
  value.edges = static_cast<int>(circuit.size());
  value.by_example = pair.clean.Value(metric, pair.clean.Run(from, {&pair.corrupted.outputs()}));
  value.mean = MeanOf(value.by_example);
  const double clean = MeanOf(pair.clean.Value(metric, pair.clean.resid()));
  const double corrupted = MeanOf(pair.corrupted.Value(metric, pair.corrupted.resid()));
  value.faithfulness =
      clean == corrupted ? std::nan("") : (value.mean - corrupted) / (clean - corrupted);
  return value;
}

std::vector<int> CurveSizes(int edges) {
  std::vector<int> sizes;
  for (int64_t power = 1; power < edges; power *= 10) {
    for (const int64_t size : {power, 2 * power, 5 * power}) {
      if (size < edges) sizes.push_back(static_cast<int>(size));
    }
  }
  sizes.push_back(edges);
  return sizes;
}

absl::StatusOr<std::vector<CircuitValue>> FaithfulnessCurve(const EdgePair& pair,
                                                            const Metric& metric,
                                                            absl::Span<const double> scores,
                                                            absl::Span<const int> sizes) {
  std::vector<CircuitValue> curve;
  for (const int size : sizes) {
    RESIDUAL_ASSIGN_OR_RETURN(CircuitValue value,
                              EvaluateCircuit(pair, metric, TopEdges(scores, size)));
    curve.push_back(std::move(value));
  }
  return curve;
}

absl::StatusOr<RandomCircuits> CompareWithRandom(const EdgePair& pair, const Metric& metric,
                                                 absl::Span<const int> circuit, int sets,
                                                 uint64_t seed) {
  RandomCircuits compared;
  RESIDUAL_ASSIGN_OR_RETURN(const CircuitValue value, EvaluateCircuit(pair, metric, circuit));
  compared.circuit = value.faithfulness;
  int as_good = 1;
  for (int i = 0; i < sets; ++i) {
    const std::vector<int64_t> drawn =
        Draw(pair.clean.graph().edges(), static_cast<int64_t>(circuit.size()), seed,
             RandomStream("random circuit", i));
    RESIDUAL_ASSIGN_OR_RETURN(
        const CircuitValue random,
        EvaluateCircuit(pair, metric, std::vector<int>(drawn.begin(), drawn.end())));
    compared.random.push_back(random.faithfulness);
    as_good += random.faithfulness >= compared.circuit;
  }
  compared.p_value = static_cast<double>(as_good) / (sets + 1);
  return compared;
}

absl::StatusOr<AcdcResult> Acdc(const EdgePair& pair, const Metric& metric,
                                const AcdcOptions& options) {
  const GraphRun& run = pair.clean;
  const EdgeGraph& graph = run.graph();
  RESIDUAL_RETURN_IF_ERROR(CheckFits(run, metric));
  AcdcResult result;
  result.rise.assign(graph.edges(), 0);
  result.metric = MeanOf(run.Value(metric, run.resid()));
  std::vector<uint8_t> from(graph.edges(), 0);
  // How many readers still take what a writer writes.
  std::vector<int> taken(graph.writers().size(), 0);
  for (int edge = 0; edge < graph.edges(); ++edge) ++taken[graph.WriterOf(edge)];
  int done = 0;
  for (int r = static_cast<int>(graph.readers().size()) - 1; r >= 0; --r) {
    const GraphReader& reader = graph.readers()[r];
    const EdgeGraph::Range behind = graph.WritersBehind(r);
    bool dead = behind.begin < behind.end;
    for (int w = behind.begin; w < behind.end; ++w) dead = dead && taken[w] == 0;
    for (int w = reader.writers - 1; w >= 0; --w) {
      const int edge = graph.EdgeOf(w, r);
      bool remove = dead;
      from[edge] = 1;
      if (!dead) {
        const double after = MeanOf(run.Value(metric, run.Run(from, {&pair.corrupted.outputs()})));
        ++result.runs;
        result.rise[edge] = after - result.metric;
        remove = result.rise[edge] < options.threshold;
        if (remove) result.metric = after;
      }
      if (remove) {
        --taken[w];
      } else {
        from[edge] = 0;
      }
      if (options.progress) options.progress(++done, graph.edges());
    }
  }
  for (int edge = 0; edge < graph.edges(); ++edge) {
    if (from[edge] == 0) result.circuit.push_back(edge);
  }
  return result;
}

absl::StatusOr<ScrubResult> Scrub(const GraphRun& run, const Metric& metric,
                                  absl::Span<const int> circuit, const ScrubOptions& options) {
  const EdgeGraph& graph = run.graph();
  const int64_t rows = run.batch();
  RESIDUAL_RETURN_IF_ERROR(CheckFits(run, metric));
  if (rows < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("resampling needs at least 2 rows, found ", rows));
  }
  if (!options.labels.empty() && static_cast<int64_t>(options.labels.size()) != rows) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.labels.size(), " labels for ", rows, " rows"));
  }
  RESIDUAL_ASSIGN_OR_RETURN(std::vector<uint8_t> from, AllBut(graph, circuit));
  if (!options.labels.empty()) {
    for (uint8_t& source : from) source = source == 0 ? 2 : 1;
  }
  // Rows of the same label for each row.
  std::vector<std::vector<int64_t>> same(rows);
  for (int64_t a = 0; a < rows && !options.labels.empty(); ++a) {
    for (int64_t b = 0; b < rows; ++b) {
      if (options.labels[a] == options.labels[b]) same[a].push_back(b);
    }
  }
  ScrubResult result;
  result.clean = MeanOf(run.Value(metric, run.resid()));
  double none = 0;
  const std::vector<uint8_t> all(graph.edges(), 1);
  for (int sample = 0; sample < options.samples; ++sample) {
    WriterOutputs any, alike;
    for (size_t w = 0; w < run.outputs().size(); ++w) {
      const uint64_t stream = RandomStream("scrub", sample, static_cast<int64_t>(w));
      const std::vector<int64_t> order = Draw(rows, rows, options.seed, stream);
      any.push_back(GatherRows(run.outputs()[w], Tensor::Of<int64_t>({rows}, order)));
      if (options.labels.empty()) continue;
      const Philox random(options.seed,
                          RandomStream("scrub alike", sample, static_cast<int64_t>(w)));
      std::vector<int64_t> chosen;
      for (int64_t row = 0; row < rows; ++row) {
        chosen.push_back(same[row][random.Below(row, same[row].size())]);
      }
      alike.push_back(GatherRows(run.outputs()[w], Tensor::Of<int64_t>({rows}, chosen)));
    }
    result.samples.push_back(MeanOf(run.Value(metric, run.Run(from, {&any, &alike}))));
    none += MeanOf(run.Value(metric, run.Run(all, {&any}))) / options.samples;
  }
  result.mean = MeanOf(result.samples);
  result.recovered =
      result.clean == none ? std::nan("") : (result.mean - none) / (result.clean - none);
  return result;
}

}  // namespace residual
