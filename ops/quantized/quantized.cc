#include "ops/quantized/quantized.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "ops/elementwise/elementwise.h"
#include "ops/elementwise/elementwise_kernels.h"
#include "ops/gemm/gemm.h"
#include "ops/quantized/quantized_kernels.h"
#include "ops/simd/convert.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

using quantized_internal::kGroup;
using quantized_internal::kTile;
using quantized_internal::Rows;
static_assert(kGroup == kQuantizedGroup, "one size of groups");

// Rows of x up to which each is multiplied with the integers; more are products of f32, a part of
// the matrix at a time, of 1.5 MiB when it is widened.
constexpr int64_t kMostDotRows = 4;
constexpr int64_t kWidened = int64_t{3} << 17;
constexpr int64_t kWidenedAtOnce = 16;  // rows of a task
// Tasks: some for each of a few threads, of 64 KiB at least and of 128 KiB at most. A thread goes
// on from one to the next as if they were one, and the last to be done waits for one at most: of 8
// tasks of any size a token of GPT-2 small took 5 % longer.
constexpr int64_t kTasks = 8, kLeastTask = int64_t{1} << 16, kMostTask = int64_t{1} << 17;
// Rows that are quantized at once.
constexpr int64_t kQuantizedRows = 64;

int64_t RoundUp(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

Rows RowsOf(const QuantizedMatrix& w, int64_t begin, int64_t end) {
  const int64_t groups = w.scales.dim(1);
  return {w.values.data<int8_t>() + begin * groups * kGroup,
          w.scales.data<float>() + begin * groups, groups, end - begin};
}

// x [M, K] with zeros after each row, up to whole groups.
Tensor Padded(const Tensor& x, int64_t padded) {
  const int64_t K = x.dim(1);
  if (K == padded) return x;
  Tensor wide = Tensor::Zeros({x.dim(0), padded});
  float* to = wide.mutable_data<float>();
  for (int64_t m = 0; m < x.dim(0); ++m) {
    std::memcpy(to + m * padded, x.data<float>() + m * K, K * sizeof(float));
  }
  return wide;
}

// A few rows of x, each against all of w: y [M, rows].
void FewRows(const Tensor& x, const QuantizedMatrix& w, const float* bias, Activation activation,
             float* y) {
  const int64_t M = x.dim(0), N = w.rows(), padded = w.values.dim(1);
  const Tensor whole = Padded(x, padded);
  const float* in = whole.data<float>();
  const int64_t depth = std::max<int64_t>(1, padded);
  const int64_t least = std::max<int64_t>(1, kLeastTask / std::max<int64_t>(1, M * depth));
  const int64_t piece = std::min(NumChunks(N, kTasks), kMostTask / depth);
  const int64_t grain = RoundUp(std::max(least, piece), 16);
  ParallelFor(N, grain, [&](int64_t begin, int64_t end) {
    constexpr int64_t kInCache = 16;  // rows of w that all rows of x are multiplied with in turn
    const int64_t step = M == 1 ? end - begin : kInCache;
    for (int64_t n = begin; n < end; n += step) {
      const Rows rows = RowsOf(w, n, std::min(end, n + step));
      for (int64_t m = 0; m < M; ++m) {
        quantized_internal::Dots(rows, in + m * padded, bias != nullptr ? bias + n : nullptr,
                                 y + m * N + n);
      }
    }
    for (int64_t m = 0; m < M && activation != Activation::kNone; ++m) {
      float* part = y + m * N + begin;
      UnaryCpu(UnaryOpOf(activation), part, part, end - begin);
    }
  });
}

// A part of w at a time is widened, then multiplied with all of x: on all threads, so that there is
// one such part and one copy of x in the order of the product, whatever the number of threads. (A
// part for each thread: 6 % slower, and 5 MB more for 240 rows of GPT-2 small's.)
void ManyRows(const Tensor& x, const QuantizedMatrix& w, const float* bias, Activation activation,
              float* y) {
  const int64_t M = x.dim(0), N = w.rows(), K = w.columns;
  const int64_t rows = std::max<int64_t>(kWidened / std::max<int64_t>(1, K) / 32 * 32, 32);
  // Of one size for matrices of many sizes: they take it from the pool in turns.
  const StorageRef wide = AllocateHost(
      (N > rows ? std::max(rows * K, kWidened) : std::min(rows, N) * K) * sizeof(float));
  const StorageRef part = AllocateHost(M * std::min(rows, N) * sizeof(float));
  float *b = static_cast<float*>(wide->data()), *c = static_cast<float*>(part->data());
  for (int64_t begin = 0; begin < N; begin += rows) {
    const int64_t n = std::min(rows, N - begin);
    ParallelFor(n, kWidenedAtOnce, [&](int64_t first, int64_t last) {
      quantized_internal::Widen(RowsOf(w, begin + first, begin + last), K, b + first * K);
    });
    Gemm({kF32, x.raw_data(), b, bias != nullptr ? bias + begin : nullptr, c, nullptr, M, n, K,
          false, true, activation});
    for (int64_t m = 0; m < M; ++m) {
      std::memcpy(y + m * N + begin, c + m * n, n * sizeof(float));
    }
  }
}

bool IsQuantizable(const Tensor& w) {
  return w.rank() == 2 && IsFloat(w.dtype()) && w.dtype() != kF64;
}

// Elements [begin, begin + count) of w: where they lie, or widened.
const float* AsFloats(const Tensor& w, int64_t begin, int64_t count, std::vector<float>& wide) {
  if (w.dtype() == kF32) return w.data<float>() + begin;
  wide.resize(count);
  const char* from = static_cast<const char*>(w.raw_data());
  Widen(w.dtype(), from + begin * static_cast<int64_t>(SizeOf(w.dtype())), wide.data(), count);
  return wide.data();
}

absl::Status FoundFinite(bool finite) {
  if (finite) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "has an infinity or a NaN, expected finite numbers to quantize");
}

}  // namespace

QuantizedMatrix QuantizedMatrix::Uninitialized(int64_t rows, int64_t columns) {
  const int64_t groups = NumChunks(columns, kGroup);
  QuantizedMatrix matrix;
  matrix.columns = columns;
  matrix.values = Tensor::Uninitialized({rows, groups * kGroup}, DType::kI8);
  matrix.scales = Tensor::Uninitialized({rows, groups});
  return matrix;
}

absl::Status QuantizeRows(const Tensor& w, int64_t first, QuantizedMatrix& matrix) {
  const char* op = "quantize_rows";
  const int64_t K = matrix.columns;
  RESIDUAL_CHECK_OP(op, IsQuantizable(w) && w.dim(1) == K, w, matrix.values);
  RESIDUAL_CHECK_OP(op, first >= 0 && first + w.dim(0) <= matrix.rows(), w, matrix.values);
  const int64_t groups = matrix.scales.dim(1);
  int8_t* values = matrix.values.mutable_data<int8_t>() + first * groups * kGroup;
  float* scales = matrix.scales.mutable_data<float>() + first * groups;
  std::atomic<bool> finite{true};
  ParallelFor(w.dim(0), kQuantizedRows, [&](int64_t begin, int64_t end) {
    std::vector<float> wide;
    for (int64_t r = begin; r < end; ++r) {
      const float* row = AsFloats(w, r * K, K, wide);
      if (!quantized_internal::QuantizeRow(row, K, values + r * groups * kGroup,
                                           scales + r * groups)) {
        finite.store(false, std::memory_order_relaxed);
      }
    }
  });
  return FoundFinite(finite.load());
}

// A task is some groups, whose part of w lies in one piece: to read w is most of the time.
absl::Status QuantizeColumns(const Tensor& w, int64_t first, QuantizedMatrix& matrix) {
  const char* op = "quantize_columns";
  const int64_t N = matrix.rows(), end_column = first + w.dim(0);
  RESIDUAL_CHECK_OP(op, IsQuantizable(w) && w.dim(1) == N, w, matrix.values);
  RESIDUAL_CHECK_OP(op,
                    first >= 0 && first % kGroup == 0 && end_column <= matrix.columns &&
                        (end_column % kGroup == 0 || end_column == matrix.columns),
                    w, matrix.values);
  const int64_t groups = matrix.scales.dim(1);
  int8_t* values = matrix.values.mutable_data<int8_t>() + first;
  float* scales = matrix.scales.mutable_data<float>() + first / kGroup;
  std::atomic<bool> finite{true};
  ParallelFor(NumChunks(w.dim(0), kGroup), 1, [&](int64_t begin, int64_t end) {
    std::vector<float> wide;
    for (int64_t g = begin; g < end; ++g) {
      const int64_t depth = std::min(kGroup, w.dim(0) - g * kGroup);
      const float* from = AsFloats(w, g * kGroup * N, depth * N, wide);
      for (int64_t n = 0; n < N; n += kTile) {
        if (!quantized_internal::QuantizeColumns({from + n, N, depth, std::min(kTile, N - n),
                                                  values + n * groups * kGroup + g * kGroup,
                                                  scales + n * groups + g, groups * kGroup,
                                                  groups})) {
          finite.store(false, std::memory_order_relaxed);
        }
      }
    }
  });
  return FoundFinite(finite.load());
}

Tensor QuantizedMatMul(const Tensor& x, const QuantizedMatrix& w, const Tensor& bias,
                       Activation activation) {
  const char* op = "quantized_matmul";
  RESIDUAL_CHECK_OP(op, x.rank() >= 1 && x.dtype() == kF32 && x.dim(-1) == w.columns, x, w.values);
  RESIDUAL_CHECK_OP(op,
                    !bias.defined() || (bias.dtype() == kF32 && bias.shape() == Shape{w.rows()}), x,
                    w.values, bias);
  RESIDUAL_CHECK_OP(op, Tape::For({&x, &bias}) == nullptr, x);
  const int64_t N = w.rows();
  Tensor y = Tensor::Uninitialized(x.shape().With(-1, N));
  if (y.elements() == 0) return y;
  const Tensor flat = x.Reshaped({y.elements() / N, w.columns});
  const float* b = bias.defined() ? bias.data<float>() : nullptr;
  float* out = y.mutable_data<float>();
  flat.dim(0) <= kMostDotRows ? FewRows(flat, w, b, activation, out)
                              : ManyRows(flat, w, b, activation, out);
  return y;
}

Tensor Dequantize(const QuantizedMatrix& matrix, int64_t begin, int64_t end) {
  RESIDUAL_CHECK_OP("dequantize", 0 <= begin && begin <= end && end <= matrix.rows(),
                    matrix.values);
  Tensor rows = Tensor::Uninitialized({end - begin, matrix.columns});
  float* to = rows.mutable_data<float>();
  ParallelFor(end - begin, kQuantizedRows, [&](int64_t b, int64_t e) {
    quantized_internal::Widen(RowsOf(matrix, begin + b, begin + e), matrix.columns,
                              to + b * matrix.columns);
  });
  return rows;
}

Tensor DequantizeRows(const QuantizedMatrix& matrix, const Tensor& ids) {
  const Tensor wide = ConvertTo(ids, kI64);
  Tensor rows = Tensor::Uninitialized(ids.shape().Appended(matrix.columns));
  float* to = rows.mutable_data<float>();
  for (const int64_t id : wide.span<int64_t>()) {
    RESIDUAL_CHECK(0 <= id && id < matrix.rows())
        << "dequantize_rows: row " << id << " of " << matrix.rows();
    quantized_internal::Widen(RowsOf(matrix, id, id + 1), matrix.columns, to);
    to += matrix.columns;
  }
  return rows;
}

}  // namespace residual
