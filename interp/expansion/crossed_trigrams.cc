#include "interp/expansion/crossed_trigrams.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tensor/base/status_macros.h"

namespace residual {

std::vector<CrossedTrigrams> FindCrossed(const HeadCircuits& circuits,
                                         const HeadCircuits::Head& head, const BigramTable& bigrams,
                                         int64_t count, int64_t among, int64_t least) {
  // Those of a source whose last two tokens the text has, best first.
  std::map<int64_t, std::vector<SkipTrigram>> by_source;
  for (const SkipTrigram& triple : TopSkipTrigrams(circuits, head, among)) {
    if (bigrams.count(triple.destination, triple.out) < least) continue;
    by_source[triple.source].push_back(triple);
  }
  std::vector<CrossedTrigrams> found;
  for (const auto& [source, triples] : by_source) {
    for (size_t i = 0; i < triples.size(); ++i) {
      for (size_t j = i + 1; j < triples.size(); ++j) {
        const SkipTrigram &a = triples[i], &b = triples[j];
        if (a.destination == b.destination || a.out == b.out) continue;
        if (bigrams.count(a.destination, b.out) > 0 || bigrams.count(b.destination, a.out) > 0) {
          continue;
        }
        found.push_back({a, b});
      }
    }
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const CrossedTrigrams& a, const CrossedTrigrams& b) {
                     return a.second.score() > b.second.score();
                   });
  std::vector<CrossedTrigrams> best;
  std::set<std::pair<int64_t, int64_t>> seen;  // so that the list is not one triple in many pairs
  for (const CrossedTrigrams& pair : found) {
    if (static_cast<int64_t>(best.size()) == count) break;
    const std::pair<int64_t, int64_t> first{pair.first.destination, pair.first.out};
    const std::pair<int64_t, int64_t> second{pair.second.destination, pair.second.out};
    if (seen.count(first) > 0 || seen.count(second) > 0) continue;
    seen.insert(first);
    seen.insert(second);
    best.push_back(pair);
  }
  return best;
}

absl::StatusOr<std::vector<double>> RaisedBySource(const ResidualModel& model, const Tensor& rows,
                                                   int64_t source, int64_t destination,
                                                   int64_t distance) {
  RESIDUAL_RETURN_IF_ERROR(model.Validate({rows}));
  const int64_t batch = rows.dim(0), pos = rows.dim(1);
  if (distance < 1 || distance >= pos) {
    return absl::InvalidArgumentError(absl::StrCat("the source is ", distance,
                                                   " tokens back in rows of ", pos,
                                                   ", expected at least 1 and less than that"));
  }
  Tensor both = Tensor::Uninitialized({2 * batch, pos}, kI64);
  const Tensor ids = ConvertTo(rows, kI64);
  int64_t* to = both.mutable_data<int64_t>();
  for (int64_t b = 0; b < 2 * batch; ++b) {
    std::copy_n(ids.data<int64_t>() + (b % batch) * pos, pos, to + b * pos);
    to[b * pos + pos - 1] = destination;
    if (b < batch) to[b * pos + pos - 1 - distance] = source;
  }
  ModelInput input{both};
  input.last_logits = 1;
  RESIDUAL_ASSIGN_OR_RETURN(const Tensor logits, model.Run(input));
  const std::vector<double> values = logits.ToDoubles();
  const int64_t n = model.d_vocab();
  std::vector<double> raised(n, 0.0);
  double mean = 0;
  for (int64_t o = 0; o < n; ++o) {
    for (int64_t b = 0; b < batch; ++b) {
      raised[o] += (values[b * n + o] - values[(b + batch) * n + o]) / static_cast<double>(batch);
    }
    mean += raised[o] / static_cast<double>(n);
  }
  for (double& value : raised) value -= mean;
  return raised;
}

}  // namespace residual
