#include "interp/expansion/bigrams.h"

#include <algorithm>
#include <cmath>

#include "interp/circuits/head_circuits.h"
#include "tensor/base/check.h"

namespace residual {
namespace {

double Correlation(const std::vector<double>& x, const std::vector<double>& y) {
  const double n = static_cast<double>(x.size());
  double mean_x = 0, mean_y = 0, xx = 0, yy = 0, xy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    mean_x += x[i] / n;
    mean_y += y[i] / n;
  }
  for (size_t i = 0; i < x.size(); ++i) {
    xx += (x[i] - mean_x) * (x[i] - mean_x);
    yy += (y[i] - mean_y) * (y[i] - mean_y);
    xy += (x[i] - mean_x) * (y[i] - mean_y);
  }
  // What differs by rounding alone does not differ.
  const double flat = 1e-24 * n;
  return xx > flat && yy > flat ? xy / std::sqrt(xx * yy) : 0;
}

}  // namespace

BigramTable::BigramTable(absl::Span<const int32_t> tokens, int64_t d_vocab)
    : counts_(d_vocab * d_vocab), first_(d_vocab), next_(d_vocab) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    RESIDUAL_CHECK(0 <= tokens[i] && tokens[i] < d_vocab) << tokens[i] << " of " << d_vocab;
    if (i == 0) continue;
    ++counts_[tokens[i - 1] * d_vocab + tokens[i]];
    ++first_[tokens[i - 1]];
    ++next_[tokens[i]];
    ++total_;
  }
}

Tensor DirectPathLogits(const ResidualModel& model) {
  RESIDUAL_CHECK(model.ln_final().kind() == NormKind::kNone);
  const Vocabulary vocabulary(model, /*process_weights=*/false, /*centre_embed=*/false);
  RowMatrix logits = Product(vocabulary.W_E(), vocabulary.W_U());
  if (const Tensor& bias = model.unembed().b_U(); bias.defined()) {
    const std::vector<double> values = bias.ToDoubles();
    logits.rowwise() += Eigen::Map<const Eigen::RowVectorXd>(values.data(), values.size());
  }
  return Tensor::Of<double>({logits.rows(), logits.cols()},
                            absl::MakeConstSpan(logits.data(), logits.size()));
}

BigramFit CompareWithBigrams(const Tensor& logits, const BigramTable& table, int64_t least) {
  const int64_t n = table.d_vocab();
  RESIDUAL_CHECK(logits.shape() == Shape({n, n})) << logits.ToString();
  const std::vector<double> scores = logits.ToDoubles();
  BigramFit fit;
  std::vector<double> log_unigram, log_ps, log_qs;
  const double total = static_cast<double>(table.total());
  for (int64_t t = 0; t < n; ++t) {
    if (table.count(t) == 0) continue;
    const double* row = scores.data() + t * n;
    const double highest = *std::max_element(row, row + n);
    double sum = 0;
    for (int64_t o = 0; o < n; ++o) sum += std::exp(row[o] - highest);
    const double log_sum = highest + std::log(sum);
    for (int64_t o = 0; o < n; ++o) {
      const int64_t count = table.count(t, o);
      if (count == 0) continue;
      const double log_p = std::log(static_cast<double>(count) / table.count(t));
      const double log_q = row[o] - log_sum, log_o = std::log(table.next(o) / total);
      fit.kl += count / total * (log_p - log_q);
      fit.unigram_kl += count / total * (log_p - log_o);
      if (count < least) continue;
      log_ps.push_back(log_p);
      log_qs.push_back(log_q);
      log_unigram.push_back(log_o);
      fit.lift_p.push_back(log_p - log_o);
      fit.lift_q.push_back(log_q - log_o);
    }
  }
  fit.correlation = Correlation(log_ps, log_qs);
  fit.unigram_correlation = Correlation(log_ps, log_unigram);
  fit.lift_correlation = Correlation(fit.lift_p, fit.lift_q);
  return fit;
}

}  // namespace residual
