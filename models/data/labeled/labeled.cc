#include "models/data/labeled/labeled.h"

#include <cstring>
#include <numeric>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensor/base/check.h"
#include "tensor/base/random.h"

namespace residual {

LabeledSequences SelectRows(const LabeledSequences& data, absl::Span<const int64_t> rows) {
  const auto n = static_cast<int64_t>(rows.size());
  LabeledSequences chosen;
  chosen.x = Tensor::Uninitialized(data.x.shape().With(0, n), data.x.dtype());
  chosen.n_classes = data.n_classes;
  chosen.class_names = data.class_names;
  chosen.d_vocab = data.d_vocab;
  const size_t bytes = data.n() == 0 ? 0 : data.x.bytes() / data.label.size();
  char* to = n == 0 ? nullptr : static_cast<char*>(chosen.x.mutable_raw_data());
  for (int64_t i = 0; i < n; ++i) {
    RESIDUAL_CHECK(rows[i] >= 0 && rows[i] < data.n()) << "row " << rows[i] << " of " << data.n();
    std::memcpy(to + i * bytes, static_cast<const char*>(data.x.raw_data()) + rows[i] * bytes,
                bytes);
    chosen.label.push_back(data.label[rows[i]]);
    if (!data.lengths.empty()) chosen.lengths.push_back(data.lengths[rows[i]]);
  }
  return chosen;
}

absl::StatusOr<LabeledSplit> SplitRows(const LabeledSequences& data, int64_t n_validation,
                                       int64_t n_test, uint64_t seed) {
  const int64_t n = data.n();
  if (n_validation < 0 || n_test < 0 || n_validation >= n || n_test >= n - n_validation) {
    return absl::InvalidArgumentError(absl::StrCat(
        n_validation, " rows to validate on and ", n_test,
        " to test on, expected 0 or more of each and together fewer than the ", n, " there are"));
  }
  std::vector<int64_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  const Philox random(seed, RandomStream("split rows"));
  for (int64_t i = 0; i + 1 < n; ++i) std::swap(order[i], order[i + random.Below(i, n - i)]);
  const absl::Span<const int64_t> all(order);
  const auto part = [&](int64_t begin, int64_t size) {
    return SelectRows(data, all.subspan(begin, size));
  };
  return LabeledSplit{part(n_validation + n_test, n - n_validation - n_test), part(0, n_validation),
                      part(n_validation, n_test)};
}

}  // namespace residual
