#include "interp/heads/pattern_statistics.h"

#include <algorithm>
#include <cmath>

#include "tensor/base/check.h"
#include "tensor/base/parallel.h"

namespace residual {
namespace {

struct Sums {
  double queries = 0, entropy = 0, distance = 0, first = 0, current = 0;
};

template <class T>
void Add(const T* row, int64_t query, int64_t keys, Sums& sums) {
  double total = 0, entropy = 0, distance = 0;
  for (int64_t key = 0; key < keys; ++key) {
    const double p = ToDouble(row[key]);
    if (p <= 0) continue;
    total += p;
    entropy -= p * std::log(p);
    distance += p * static_cast<double>(query - key);
  }
  if (total == 0) return;
  sums.queries += 1;
  sums.entropy += entropy;
  sums.distance += distance;
  sums.first += ToDouble(row[0]);
  sums.current += query < keys ? ToDouble(row[query]) : 0;
}

}  // namespace

PatternStatistics MeasurePatterns(const std::vector<Tensor>& patterns) {
  PatternStatistics statistics;
  for (const Tensor& pattern : patterns) {
    const int64_t heads = pattern.defined() ? pattern.dim(1) : 0;
    std::vector<Sums> sums(heads);
    if (pattern.defined()) {
      RESIDUAL_CHECK_EQ(pattern.rank(), 4) << pattern.ToString();
      const int64_t batch = pattern.dim(0), queries = pattern.dim(2), keys = pattern.dim(3);
      VisitDType(pattern.dtype(), [&](auto tag) {
        using T = decltype(tag);
        const T* data = pattern.data<T>();
        ParallelFor(heads, 1, [&](int64_t begin, int64_t end) {
          for (int64_t h = begin; h < end; ++h) {
            for (int64_t b = 0; b < batch; ++b) {
              for (int64_t q = 0; q < queries; ++q) {
                Add(data + ((b * heads + h) * queries + q) * keys, q, keys, sums[h]);
              }
            }
          }
        });
      });
    }
    auto mean = [&](double Sums::*field) {
      std::vector<double> row;
      for (const Sums& sum : sums) row.push_back(sum.*field / std::max(1.0, sum.queries));
      return row;
    };
    statistics.entropy.push_back(mean(&Sums::entropy));
    statistics.mean_distance.push_back(mean(&Sums::distance));
    statistics.first_token.push_back(mean(&Sums::first));
    statistics.current_token.push_back(mean(&Sums::current));
  }
  return statistics;
}

}  // namespace residual
