#include "interp/heads/detect.h"

#include <algorithm>
#include <cmath>

#include "tensor/base/check.h"
#include "tensor/base/parallel.h"
#include "tensor/base/random.h"

namespace residual {
namespace {

struct Square {
  int64_t n;
  double operator()(absl::Span<const double> x, int64_t query, int64_t key) const {
    return x[query * n + key];
  }
  bool LeftOut(const DetectOptions& options, int64_t query, int64_t key) const {
    return (options.exclude_bos && key == 0) || (options.exclude_current_token && key == query);
  }
};

// One head on one row: P and D are [n, n].
double Agreement(absl::Span<const double> P, absl::Span<const double> D, int64_t n,
                 const DetectOptions& options) {
  const Square at{n};
  double matched = 0, total = 0, difference = 0;
  for (int64_t query = 0; query < n; ++query) {
    for (int64_t key = 0; key < n; ++key) {
      if (at.LeftOut(options, query, key)) continue;
      matched += at(P, query, key) * at(D, query, key);
      total += at(P, query, key);
      difference += std::abs(at(P, query, key) - at(D, query, key));
    }
  }
  if (options.measure == DetectMeasure::kMul) return total == 0 ? 0 : matched / total;
  return 1 - difference / static_cast<double>(n);  // n times the mean over n^2 cells
}

}  // namespace

std::vector<double> DetectionPattern(HeadKind kind, absl::Span<const int64_t> tokens) {
  const int64_t n = static_cast<int64_t>(tokens.size());
  std::vector<double> pattern(n * n);
  for (int64_t query = 0; query < n; ++query) {
    for (int64_t key = 0; key <= query; ++key) {
      bool ideal = false;
      switch (kind) {
        case HeadKind::kPreviousToken:
          ideal = key == query - 1;
          break;
        case HeadKind::kDuplicateToken:
          ideal = key < query && tokens[key] == tokens[query];
          break;
        case HeadKind::kInduction:
          ideal = key > 0 && tokens[key - 1] == tokens[query];
          break;
      }
      pattern[query * n + key] = ideal ? 1 : 0;
    }
  }
  return pattern;
}

HeadTable DetectHeads(const std::vector<Tensor>& patterns, const Tensor& tokens, HeadKind kind,
                      const DetectOptions& options) {
  const Tensor ids = ConvertTo(tokens, kI64);
  const int64_t batch = ids.dim(0), n = ids.dim(1);
  HeadTable table;
  for (const Tensor& pattern : patterns) {
    std::vector<double>& row = table.emplace_back();
    if (!pattern.defined()) continue;
    const int64_t heads = pattern.dim(1);
    RESIDUAL_CHECK(pattern.shape() == Shape({batch, heads, n, n}))
        << "patterns " << pattern.ToString() << " of tokens " << tokens.ToString();
    const std::vector<double> values = pattern.ToDoubles();
    row.resize(heads);
    for (int64_t b = 0; b < batch; ++b) {
      const std::vector<double> ideal =
          DetectionPattern(kind, ids.span<int64_t>().subspan(b * n, n));
      ParallelFor(heads, 1, [&](int64_t begin, int64_t end) {
        for (int64_t h = begin; h < end; ++h) {
          const absl::Span<const double> head(values.data() + (b * heads + h) * n * n, n * n);
          row[h] += Agreement(head, ideal, n, options) / static_cast<double>(batch);
        }
      });
    }
  }
  return table;
}

Tensor RepeatedTokensAfterFirst(int64_t batch, int64_t n, absl::Span<const int64_t> vocabulary,
                                uint64_t seed, std::optional<int64_t> first) {
  const Tensor repeated = RepeatedRandomTokens(batch, n, vocabulary, seed);
  Tensor tokens = Tensor::Uninitialized({batch, 1 + 2 * n}, kI64);
  int64_t* to = tokens.mutable_data<int64_t>();
  const Philox random(seed, RandomStream("first token"));
  for (int64_t b = 0; b < batch; ++b) {
    *to++ = first.has_value()
                ? *first
                : vocabulary[random.Below(b, static_cast<int64_t>(vocabulary.size()))];
    to = std::copy_n(repeated.data<int64_t>() + b * 2 * n, 2 * n, to);
  }
  return tokens;
}

bool IsRepeatedAfterFirst(const Tensor& tokens) {
  const Tensor ids = ConvertTo(tokens, kI64);
  const int64_t batch = ids.dim(0), n = (ids.dim(1) - 1) / 2;
  if (n < 2 || ids.dim(1) != 1 + 2 * n) return false;
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t* passage = ids.data<int64_t>() + b * ids.dim(1) + 1;
    if (!std::equal(passage, passage + n, passage + n)) return false;
  }
  return true;
}

HeadTable InductionStripes(const std::vector<Tensor>& patterns) {
  HeadTable table;
  for (const Tensor& pattern : patterns) {
    std::vector<double>& row = table.emplace_back();
    if (!pattern.defined()) continue;
    const int64_t batch = pattern.dim(0), heads = pattern.dim(1), pos = pattern.dim(2);
    RESIDUAL_CHECK(pos >= 5 && pos % 2 == 1) << pattern.ToString() << ": pos is not 1 + 2 n";
    const int64_t back = (pos - 1) / 2 - 1;
    const std::vector<double> values = pattern.ToDoubles();
    row.resize(heads);
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t b = 0; b < batch; ++b) {
        for (int64_t query = back; query < pos; ++query) {
          row[h] += values[((b * heads + h) * pos + query) * pos + query - back];
        }
      }
      row[h] /= static_cast<double>(batch * (pos - back));
    }
  }
  return table;
}

}  // namespace residual
