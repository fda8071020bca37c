#include "models/data/generated/list_ops.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tensor/base/check.h"
#include "tensor/base/random.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

constexpr int kDigits = 10;
constexpr double kDigit = 0.75;  // how often a place holds one
constexpr int64_t kMostTokens = int64_t{1} << 30;
constexpr int64_t kTries = 1000;  // for each expression
constexpr int kMostDepth = 1000;  // each is a call within a call

class Expression {
 public:
  Expression(const ListOpsOptions& options, uint64_t seed, int64_t attempt)
      : options_(options), random_(seed, RandomStream("list ops", static_cast<uint64_t>(attempt))) {
    value_ = Draw(1);
  }

  // Longer than max_length: given up, tokens and value mean nothing.
  bool too_long() const { return static_cast<int64_t>(tokens_.size()) > options_.max_length; }
  int value() const { return value_; }
  std::vector<int8_t>& tokens() { return tokens_; }

 private:
  // Appends what stands at one place; its value.
  int Draw(int depth) {
    if (too_long()) return 0;
    if (depth >= options_.max_depth || random_.UniformDouble(next_++) < kDigit) {
      tokens_.push_back(static_cast<int8_t>(random_.Below(next_++, kDigits)));
      return tokens_.back();
    }
    const int32_t op = kListOpsMin + static_cast<int32_t>(random_.Below(next_++, 4));
    tokens_.push_back(static_cast<int8_t>(op));
    std::vector<int> arguments(2 + random_.Below(next_++, options_.max_args - 1));
    for (int& argument : arguments) argument = Draw(depth + 1);
    tokens_.push_back(kListOpsEnd);
    return Apply(op, arguments);
  }

  static int Apply(int32_t op, std::vector<int>& arguments) {
    switch (op) {
      case kListOpsMin:
        return *std::min_element(arguments.begin(), arguments.end());
      case kListOpsMax:
        return *std::max_element(arguments.begin(), arguments.end());
      case kListOpsMed: {
        std::sort(arguments.begin(), arguments.end());
        const size_t n = arguments.size();
        return (arguments[(n - 1) / 2] + arguments[n / 2]) / 2;
      }
      default: {
        int sum = 0;
        for (int argument : arguments) sum += argument;
        return sum % kDigits;
      }
    }
  }

  const ListOpsOptions& options_;
  const Philox random_;
  uint64_t next_ = 0;
  std::vector<int8_t> tokens_;
  int value_ = 0;
};

absl::Status Check(const char* option, int64_t found, int64_t least, int64_t most) {
  if (found >= least && found <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("list ops: ", option, " is ", found, ", expected ", least, " to ", most));
}

}  // namespace

absl::StatusOr<LabeledSequences> MakeListOps(const ListOpsOptions& options, uint64_t seed) {
  RESIDUAL_RETURN_IF_ERROR(Check("max_length", options.max_length, 1, kMostTokens));
  RESIDUAL_RETURN_IF_ERROR(Check("min_length", options.min_length, 1, options.max_length));
  RESIDUAL_RETURN_IF_ERROR(Check("n", options.n, 1, kMostTokens / options.max_length));
  RESIDUAL_RETURN_IF_ERROR(Check("max_depth", options.max_depth, 1, kMostDepth));
  RESIDUAL_RETURN_IF_ERROR(Check("max_args", options.max_args, 2, kMostTokens));
  LabeledSequences data;
  std::set<std::vector<int8_t>> seen;
  std::vector<std::set<std::vector<int8_t>>::const_iterator> rows;
  size_t longest = 0;
  for (int64_t attempt = 0; data.n() < options.n; ++attempt) {
    if (attempt == kTries * options.n) {
      return absl::InvalidArgumentError(absl::StrCat(
          "list ops: ", data.n(), " different expressions of ", options.min_length, " to ",
          options.max_length, " tokens in ", attempt, " tries, expected ", options.n,
          ": other lengths, a larger max_depth or max_args, or a smaller n?"));
    }
    Expression expression(options, seed, attempt);
    if (expression.too_long()) continue;
    const size_t length = expression.tokens().size();
    if (static_cast<int64_t>(length) < options.min_length) continue;
    const auto [row, is_new] = seen.insert(std::move(expression.tokens()));
    if (!is_new) continue;
    rows.push_back(row);
    longest = std::max(longest, length);
    data.lengths.push_back(static_cast<int64_t>(length));
    data.label.push_back(expression.value());
  }
  data.x = Tensor::Full({data.n(), static_cast<int64_t>(longest)}, kListOpsPadding, kI32);
  int32_t* to = data.x.mutable_data<int32_t>();
  for (const auto& row : rows) {
    std::copy(row->begin(), row->end(), to);
    to += longest;
  }
  data.n_classes = kDigits;
  data.d_vocab = kListOpsPadding + 1;
  return data;
}

std::string ListOpsText(absl::Span<const int32_t> tokens) {
  static constexpr const char* kNames[] = {"[MIN", "[MAX", "[MED", "[SM", "]"};
  std::vector<std::string> words;
  for (int32_t token : tokens) {
    RESIDUAL_CHECK(token >= 0 && token <= kListOpsPadding) << "token " << token;
    if (token == kListOpsPadding) continue;
    words.push_back(token < kDigits ? absl::StrCat(token) : kNames[token - kDigits]);
  }
  return absl::StrJoin(words, " ");
}

}  // namespace residual
