#include "models/nn/precision.h"

#include <algorithm>
#include <utility>

#include "ops/elementwise/elementwise.h"
#include "ops/layout/layout.h"
#include "ops/quantized/quantized.h"
#include "tensor/autograd/tape.h"

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

// Of a tensor: as the matrix it is for an x whose last axis has K.
Tensor AsMatrix(const Tensor& weight, int64_t K) {
  return weight.Reshaped({K, K == 0 ? 0 : weight.elements() / K});
}

// act(x W + b) for all that is stored in the matrix.
Tensor WithAll(const Tensor& x, const StoredMatrix& matrix, Precision precision,
               MatMulOptions options, bool narrow) {
  options.transpose_b = options.transpose_b != matrix.transposed;
  if (matrix.quantized.defined()) {
    RESIDUAL_CHECK(options.transpose_b) << "columns of a quantized matrix";
    return QuantizedMatMul(Cast(x, kF32), matrix.quantized, options.bias, options.activation);
  }
  if (matrix.values.dtype() == kF16) precision = Precision::kFull;
  return Linear(x, matrix.values, precision, std::move(options), narrow);
}

bool StoredTogether(absl::Span<const Weight* const> weights) {
  const StoredMatrix& first = weights[0]->matrix();
  for (size_t i = 0; i < weights.size(); ++i) {
    if (!weights[i]->stored()) return false;
    const StoredMatrix& m = weights[i]->matrix();
    if (m.bytes() != first.bytes() || m.part != static_cast<int>(i)) {
      return false;
    }
  }
  return first.parts == static_cast<int>(weights.size());
}

// The parts' biases in the order of the matrix's columns.
Tensor JoinBiases(const StoredMatrix& matrix, absl::Span<const Tensor> biases) {
  std::vector<Tensor> parts;
  const int64_t blocks = matrix.by_head ? matrix.shape[1] : 1;
  for (const Tensor& bias : biases) {
    parts.push_back(bias.Reshaped({blocks, 1, bias.elements() / blocks}));
  }
  const Tensor joined = Concat(parts, 1);
  return joined.Reshaped({joined.elements()});
}

// The parts of the product with all of a matrix.
std::vector<Tensor> SplitParts(const StoredMatrix& matrix, const Tensor& y) {
  const int64_t parts = matrix.parts, out = y.dim(-1) / parts;
  const Shape shape = y.shape().With(-1, out);
  std::vector<Tensor> split;
  if (!matrix.by_head && y.elements() == y.dim(-1) && Tape::For({&y}) == nullptr) {  // one row
    const Tensor rows = y.Reshaped({parts, out});
    for (int64_t i = 0; i < parts; ++i) split.push_back(rows.Row(i).Reshaped(shape));
    return split;
  }
  const int64_t blocks = matrix.by_head ? matrix.shape[1] : 1;
  const Tensor by_part =
      y.Reshaped({y.elements() / y.dim(-1), blocks, parts, blocks == 0 ? 0 : out / blocks});
  for (int64_t i = 0; i < parts; ++i) {
    split.push_back(Slice(by_part, 2, i, i + 1).Reshaped(shape));
  }
  return split;
}

// Each part from its own rows of a matrix of 8 bits: what SplitParts gives, without the product of
// all, from which parts of several rows would have to be copied.
std::vector<Tensor> RowsOfEach(const Tensor& x, const StoredMatrix& matrix,
                               absl::Span<const Tensor> biases) {
  const int64_t rows = matrix.quantized.rows() / matrix.parts;
  std::vector<Tensor> results;
  for (int64_t i = 0; i < matrix.parts; ++i) {
    const Tensor bias = biases.empty() ? Tensor() : biases[i].Reshaped({rows});
    results.push_back(QuantizedMatMul(x, matrix.quantized.Rows(i * rows, (i + 1) * rows), bias));
  }
  return results;
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

Tensor Linear(const Tensor& x, const Weight& weight, Precision precision, MatMulOptions options,
              bool narrow) {
  if (weight.stored() && weight.matrix().parts == 1) {
    return WithAll(x, weight.matrix(), precision, std::move(options), narrow);
  }
  const Tensor dense = weight.Dense();
  const bool is_matrix = dense.rank() == 2;
  return Linear(x, is_matrix ? dense : AsMatrix(dense, x.dim(-1)), precision, std::move(options),
                narrow);
}

std::vector<Tensor> LinearEach(const Tensor& x, absl::Span<const Weight* const> weights,
                               absl::Span<const Tensor> biases, Precision precision, bool narrow) {
  if (StoredTogether(weights)) {
    const StoredMatrix& matrix = weights[0]->matrix();
    MatMulOptions options;
    if (matrix.quantized.defined() && !matrix.by_head && x.elements() > x.dim(-1)) {
      return RowsOfEach(Cast(x, kF32), matrix, biases);
    }
    if (!biases.empty()) options.bias = JoinBiases(matrix, biases);
    return SplitParts(matrix, WithAll(x, matrix, precision, options, narrow));
  }
  std::vector<Tensor> flat_biases;
  for (const Tensor& bias : biases) flat_biases.push_back(bias.Reshaped({bias.elements()}));
  const bool stored = std::any_of(weights.begin(), weights.end(),
                                  [](const Weight* weight) { return weight->stored(); });
  std::vector<Tensor> results;
  if (stored) {
    for (size_t i = 0; i < weights.size(); ++i) {
      MatMulOptions options;
      if (!biases.empty()) options.bias = flat_biases[i];
      results.push_back(Linear(x, *weights[i], precision, options, narrow));
    }
    return results;
  }
  std::vector<Tensor> matrices;
  for (const Weight* weight : weights) matrices.push_back(AsMatrix(weight->tensor(), x.dim(-1)));
  return MatMulEach(x, matrices, flat_biases, InPrecision({}, precision, narrow));
}

}  // namespace residual
