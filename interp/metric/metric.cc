#include "interp/metric/metric.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "ops/elementwise/elementwise.h"
#include "ops/embedding/embedding.h"
#include "ops/layout/layout.h"
#include "ops/loss/cross_entropy.h"
#include "ops/reduce/reduce.h"
#include "ops/softmax/softmax.h"
#include "tensor/base/check.h"

namespace residual {
namespace {

// Of logits made at a time.
constexpr int64_t kLogitBytes = int64_t{32} << 20;

// The last position: [rows, d_vocab].
Tensor Last(const Tensor& logits) {
  const int64_t n = logits.dim(1);
  return Slice(logits, 1, n - 1, n).Reshaped({logits.dim(0), logits.dim(2)});
}

Tensor IdsOf(const std::vector<int64_t>& ids, absl::Span<const int64_t> examples) {
  std::vector<int64_t> picked;
  for (const int64_t e : examples) picked.push_back(ids[e]);
  return Tensor::Of<int64_t>({static_cast<int64_t>(picked.size())}, picked);
}

Tensor AllIds(const std::vector<int64_t>& ids) {
  return Tensor::Of<int64_t>({static_cast<int64_t>(ids.size())}, ids);
}

// logits[row, id of the row].
Tensor LogitsOf(const Tensor& last, const Tensor& ids) {
  return TakeAlong(last, ids.Reshaped({ids.dim(0), 1})).Reshaped({ids.dim(0)});
}

Metric OfAnswer(std::string name, std::vector<int64_t> answer, Tensor (*of)(const Tensor&)) {
  Metric metric;
  metric.name = std::move(name);
  metric.examples = static_cast<int64_t>(answer.size());
  metric.tokens = answer;
  metric.value = [answer, of](const Tensor& logits, absl::Span<const int64_t> examples) {
    return of(TokenLogProbs(Last(logits), IdsOf(answer, examples))).ToDoubles();
  };
  metric.differentiable = [answer, of](const Tensor& logits) {
    return of(TokenLogProbs(Last(logits), AllIds(answer)));
  };
  return metric;
}

}  // namespace

Metric LogitDifference(std::vector<int64_t> answer, std::vector<int64_t> wrong) {
  RESIDUAL_CHECK_EQ(answer.size(), wrong.size());
  Metric metric;
  metric.name = "logit_difference";
  metric.examples = static_cast<int64_t>(answer.size());
  metric.tokens = answer;
  metric.tokens.insert(metric.tokens.end(), wrong.begin(), wrong.end());
  for (size_t i = 0; i < answer.size(); ++i) {
    metric.linear.push_back({{answer[i], 1}, {wrong[i], -1}});
  }
  metric.value = [answer, wrong](const Tensor& logits, absl::Span<const int64_t> examples) {
    const Tensor last = Last(logits);
    return Sub(LogitsOf(last, IdsOf(answer, examples)), LogitsOf(last, IdsOf(wrong, examples)))
        .ToDoubles();
  };
  metric.differentiable = [answer, wrong](const Tensor& logits) {
    const Tensor last = Last(logits);
    return Sub(LogitsOf(last, AllIds(answer)), LogitsOf(last, AllIds(wrong)));
  };
  return metric;
}

Metric AnswerLoss(std::vector<int64_t> answer) {
  return OfAnswer("loss", std::move(answer),
                  [](const Tensor& log_prob) { return Scale(log_prob, -1); });
}

Metric AnswerProbability(std::vector<int64_t> answer) {
  return OfAnswer("probability", std::move(answer), Exp);
}

Metric KlDivergence(const Tensor& reference) {
  const Tensor log_p = LogSoftmax(reference);
  const Tensor p = Softmax(reference);
  const auto kl = [](const Tensor& logits, const Tensor& p, const Tensor& log_p) {
    return Sum(Mul(Sub(log_p, LogSoftmax(Last(logits))), p), 1);
  };
  Metric metric;
  metric.name = "kl";
  metric.examples = reference.dim(0);
  metric.value = [p, log_p, kl](const Tensor& logits, absl::Span<const int64_t> examples) {
    const Tensor rows = Tensor::Of<int64_t>({static_cast<int64_t>(examples.size())}, examples);
    return kl(logits, GatherRows(p, rows), GatherRows(log_p, rows)).ToDoubles();
  };
  metric.differentiable = [p, log_p, kl](const Tensor& logits) { return kl(logits, p, log_p); };
  return metric;
}

Metric FunctionOfLogits(std::string name, Metric::Function value, int64_t positions) {
  Metric metric;
  metric.name = std::move(name);
  metric.value = std::move(value);
  metric.positions = positions;
  return metric;
}

absl::Status CheckMetric(const Metric& metric, const ResidualModel& model, int64_t batch,
                         int64_t positions) {
  if (metric.examples >= 0 && metric.examples != batch) {
    return absl::InvalidArgumentError(absl::StrCat("the metric '", metric.name, "' is of ",
                                                   metric.examples, " examples, expected one of ",
                                                   batch, ", as there are prompts"));
  }
  if (metric.positions < 1 || metric.positions > positions) {
    return absl::InvalidArgumentError(absl::StrCat("the metric '", metric.name, "' reads the last ",
                                                   metric.positions, " positions of ", positions));
  }
  for (const int64_t token : metric.tokens) {
    if (token < 0 || token >= model.d_vocab()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "token ", token, " of the metric is outside the vocabulary of ", model.d_vocab()));
    }
  }
  return absl::OkStatus();
}

MetricReader::MetricReader(const ResidualModel& model, const Metric& metric)
    : model_(model), metric_(metric) {
  if (metric_.linear.empty()) return;
  std::vector<int64_t> ids;
  for (const auto& example : metric_.linear) {
    for (const auto& [id, weight] : example) ids.push_back(id);
  }
  const std::vector<double> rows = model_.UnembedDirections(ids).ToDoubles();
  const Tensor& bias = model_.unembed().b_U();
  const std::vector<double> biases = bias.defined() ? bias.ToDoubles() : std::vector<double>();
  const int64_t d_model = model_.d_model();
  size_t at = 0;
  for (const auto& example : metric_.linear) {
    std::vector<double> direction(d_model, 0);
    double offset = 0;
    for (const auto& [id, weight] : example) {
      for (int64_t k = 0; k < d_model; ++k) direction[k] += weight * rows[at * d_model + k];
      if (!biases.empty()) offset += weight * biases[id];
      ++at;
    }
    directions_.push_back(std::move(direction));
    offsets_.push_back(offset);
  }
}

std::vector<double> MetricReader::Read(const Tensor& resid,
                                       absl::Span<const int64_t> examples) const {
  const int64_t rows = resid.dim(0), n = resid.dim(1);
  std::vector<double> values;
  if (!metric_.linear.empty()) {
    const Tensor last = Slice(resid, 1, n - 1, n);
    const std::vector<double> x = model_.ln_final().Forward(last, Scope()).ToDoubles();
    const int64_t d_model = model_.d_model();
    for (int64_t r = 0; r < rows; ++r) {
      const std::vector<double>& direction = directions_[examples[r]];
      double sum = offsets_[examples[r]];
      for (int64_t k = 0; k < d_model; ++k) sum += direction[k] * x[r * d_model + k];
      values.push_back(sum);
    }
    return values;
  }
  const int64_t row_bytes = metric_.positions * model_.d_vocab() * SizeOf(resid.dtype());
  const int64_t at_once = std::max<int64_t>(1, kLogitBytes / row_bytes);
  const Tensor read = Slice(resid, 1, n - metric_.positions, n);
  for (int64_t begin = 0; begin < rows; begin += at_once) {
    const int64_t end = std::min(rows, begin + at_once);
    const Tensor logits = model_.UnembedStream(Slice(read, 0, begin, end), Scope());
    const std::vector<double> part = metric_.value(logits, examples.subspan(begin, end - begin));
    RESIDUAL_CHECK_EQ(static_cast<int64_t>(part.size()), end - begin)
        << "values of the metric '" << metric_.name << "'";
    values.insert(values.end(), part.begin(), part.end());
  }
  return values;
}

Tensor MetricReader::Differentiable(const Tensor& resid) const {
  RESIDUAL_CHECK(metric_.differentiable != nullptr) << metric_.name << " has no gradient";
  const int64_t batch = resid.dim(0), n = resid.dim(1);
  if (metric_.linear.empty()) {
    const Tensor read = Slice(resid, 1, n - metric_.positions, n);
    return metric_.differentiable(model_.UnembedStream(read, Scope()));
  }
  RESIDUAL_CHECK_EQ(batch, static_cast<int64_t>(directions_.size())) << metric_.name;
  const Tensor x = model_.ln_final().Forward(Slice(resid, 1, n - 1, n), Scope());
  std::vector<double> directions;
  for (const std::vector<double>& direction : directions_) {
    directions.insert(directions.end(), direction.begin(), direction.end());
  }
  const Tensor weights =
      ConvertTo(Tensor::Of<double>({batch, 1, model_.d_model()}, directions), x.dtype());
  const Tensor offsets = ConvertTo(Tensor::Of<double>({batch}, offsets_), x.dtype());
  return Add(Sum(Mul(x, weights), 2).Reshaped({batch}), offsets);
}

}  // namespace residual
