#include "models/nn/precision.h"

#include <utility>

namespace residual {
namespace {

struct Entry {
  const char* name;
  Precision precision;
};
constexpr Entry kPrecisions[] = {{"f32", Precision::kFull}, {"bf16", Precision::kBF16}};

MatMulOptions InPrecision(MatMulOptions options, Precision precision, bool narrow) {
  if (precision == Precision::kBF16) {
    options.bf16_products = true;
    options.result = narrow ? kBF16 : kF32;
  }
  return options;
}

}  // namespace

std::optional<Precision> PrecisionFromName(absl::string_view name) {
  for (const Entry& entry : kPrecisions) {
    if (name == entry.name) return entry.precision;
  }
  return std::nullopt;
}

const char* PrecisionName(Precision precision) {
  for (const Entry& entry : kPrecisions) {
    if (precision == entry.precision) return entry.name;
  }
  return "?";
}

std::vector<std::string> PrecisionNames() {
  std::vector<std::string> names;
  for (const Entry& entry : kPrecisions) names.push_back(entry.name);
  return names;
}

Tensor Linear(const Tensor& x, const Tensor& weight, Precision precision, MatMulOptions options,
              bool narrow) {
  return MatMul(x, weight, InPrecision(std::move(options), precision, narrow));
}

std::vector<Tensor> LinearEach(const Tensor& x, absl::Span<const Tensor> weights,
                               absl::Span<const Tensor> biases, Precision precision, bool narrow) {
  return MatMulEach(x, weights, biases, InPrecision({}, precision, narrow));
}

}  // namespace residual
