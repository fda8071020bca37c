// What is measured of a run: a number for each example, made of the logits at the last positions.
//
//   logit difference  logit[answer] - logit[wrong]
//   loss              -log softmax(logits)[answer]
//   probability       softmax(logits)[answer]
//   KL                sum_j p_j (log p_j - log softmax(logits)_j), p of reference logits
//
// all at the last position; or any function of the logits.

#ifndef RESIDUAL_INTERP_METRIC_METRIC_H_
#define RESIDUAL_INTERP_METRIC_METRIC_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "models/stream/residual_model.h"
#include "tensor/core/tensor.h"

namespace residual {

struct Metric {
  // logits: [rows, positions, d_vocab], row i of example examples[i]. Returns a number per row.
  using Function =
      std::function<std::vector<double>(const Tensor& logits, absl::Span<const int64_t> examples)>;
  std::string name;
  Function value;
  // How many last positions it reads.
  int64_t positions = 1;

  // Where it is a weighted sum of a few logits at the last position: for each example (token,
  // weight). It is then computed without the other logits; empty: it is not.
  std::vector<std::vector<std::pair<int64_t, double>>> linear;

  // The same of all examples in order, [batch], by ops that a tape records; null: it has no
  // gradient. logits: [batch, positions, d_vocab].
  std::function<Tensor(const Tensor& logits)> differentiable;

  // Tokens it names, which have to be in the vocabulary, and of how many examples it is (-1: any).
  std::vector<int64_t> tokens;
  int64_t examples = -1;
};

// A token per example.
Metric LogitDifference(std::vector<int64_t> answer, std::vector<int64_t> wrong);
Metric AnswerLoss(std::vector<int64_t> answer);
Metric AnswerProbability(std::vector<int64_t> answer);
// reference: logits [batch, d_vocab].
Metric KlDivergence(const Tensor& reference);
// Any function; of the last `positions` positions.
Metric FunctionOfLogits(std::string name, Metric::Function value, int64_t positions = 1);

// InvalidArgument for tokens outside the vocabulary, or another number of them than of examples.
absl::Status CheckMetric(const Metric& metric, const ResidualModel& model, int64_t batch,
                         int64_t positions);

// The metric of streams after the last block, at least metric.positions of them per row: [rows,
// pos, d_model]. Logits are made of a bounded number of rows at a time.
class MetricReader {
 public:
  MetricReader(const ResidualModel& model, const Metric& metric);
  std::vector<double> Read(const Tensor& resid, absl::Span<const int64_t> examples) const;
  // The same of all examples in order, [batch], by ops that a tape records; of a linear metric no
  // logits are made, so that neither the run nor its gradient reads the unembedding. The metric has
  // a gradient (CHECKed).
  Tensor Differentiable(const Tensor& resid) const;

 private:
  const ResidualModel& model_;
  const Metric& metric_;
  // Of a linear metric: per example the sum of directions, and of biases.
  std::vector<std::vector<double>> directions_;
  std::vector<double> offsets_;
};

}  // namespace residual

#endif  // RESIDUAL_INTERP_METRIC_METRIC_H_
