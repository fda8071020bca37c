#include "ops/rotary/rotary.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "ops/rotary/rotary_kernels.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

using rotary_internal::Args;

// Elements per chunk of the parallel loops.
constexpr int64_t kGrain = 1 << 15;

void RotateF64(const Args& args, int64_t begin, int64_t end) {
  const int64_t half = args.rotary_dim / 2;
  for (int64_t r = begin; r < end; ++r) {
    const double* cos = static_cast<const double*>(args.cos) + r % args.table_rows * half;
    const double* sin = static_cast<const double*>(args.sin) + r % args.table_rows * half;
    for (int64_t h = 0; h < args.n_heads; ++h) {
      const double* x = static_cast<const double*>(args.x) + (r * args.n_heads + h) * args.d_head;
      double* y = static_cast<double*>(args.y) + (r * args.n_heads + h) * args.d_head;
      for (int64_t i = 0; i < half; ++i) {
        const int64_t first = args.interleaved ? 2 * i : i;
        const int64_t second = args.interleaved ? 2 * i + 1 : i + half;
        const double s = args.inverse ? -sin[i] : sin[i];
        y[first] = x[first] * cos[i] - x[second] * s;
        y[second] = x[second] * cos[i] + x[first] * s;
      }
      for (int64_t i = args.rotary_dim; i < args.d_head; ++i) y[i] = x[i];
    }
  }
}

Tensor Rotated(const Tensor& x, const RotaryTable& table, bool inverse) {
  // f16 has no kernel of its own: it is widened, turned and rounded once.
  if (x.dtype() == kF16) return ConvertTo(Rotated(ConvertTo(x, kF32), table, inverse), kF16);
  Tensor y = Tensor::Uninitialized(x.shape(), x.dtype());
  const int64_t rows = x.dim(0) * x.dim(1), per_row = x.dim(2) * x.dim(3);
  if (y.elements() == 0) return y;
  const int64_t half = table.cos.dim(-1);
  const Args args{x.raw_data(),
                  y.mutable_raw_data(),
                  table.cos.raw_data(),
                  table.sin.raw_data(),
                  table.cos.rank() == 3 ? rows : x.dim(1),
                  x.dim(2),
                  x.dim(3),
                  2 * half,
                  table.style == RotaryStyle::kInterleaved,
                  inverse};
  const auto kernel = x.dtype() == kF32    ? rotary_internal::RotateF32
                      : x.dtype() == kBF16 ? rotary_internal::RotateBF16
                                           : RotateF64;
  ParallelFor(rows, kGrain / per_row,
              [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
  return y;
}

template <class T>
void FillTable(const Tensor& positions, const std::vector<double>& inv_freq, double scaling,
               RotaryTable& table) {
  T* cos = table.cos.mutable_data<T>();
  T* sin = table.sin.mutable_data<T>();
  const int64_t half = static_cast<int64_t>(inv_freq.size());
  ParallelFor(positions.elements(), 512, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const double position =
          positions.dtype() == kI64 ? positions.data<int64_t>()[r] : positions.data<int32_t>()[r];
      for (int64_t i = 0; i < half; ++i) {
        const double angle = position * inv_freq[i];
        cos[r * half + i] = static_cast<T>(std::cos(angle) * scaling);
        sin[r * half + i] = static_cast<T>(std::sin(angle) * scaling);
      }
    }
  });
}

}  // namespace

RotaryTable MakeRotaryTable(const Tensor& positions, int64_t d_head, const RotaryOptions& options,
                            DType dtype) {
  RESIDUAL_CHECK_OP("rotary", positions.rank() == 1 || positions.rank() == 2, positions);
  RESIDUAL_CHECK_OP("rotary", positions.dtype() == kI64 || positions.dtype() == kI32, positions);
  RESIDUAL_CHECK_OP("rotary", dtype == kF32 || dtype == kF64, positions);
  const int64_t rotary_dim = options.rotary_dim < 0 ? d_head : options.rotary_dim;
  RESIDUAL_CHECK(rotary_dim % 2 == 0) << "rotary: rotary_dim is " << rotary_dim << ", must be even";
  const int64_t half = rotary_dim / 2;
  std::vector<double> inv_freq = options.inv_freq;
  if (inv_freq.empty()) {
    for (int64_t i = 0; i < half; ++i) {
      inv_freq.push_back(std::pow(options.theta, -2.0 * i / rotary_dim));
    }
  }
  RESIDUAL_CHECK_EQ(static_cast<int64_t>(inv_freq.size()), half)
      << "rotary: frequencies for rotary_dim " << rotary_dim;
  RotaryTable table;
  table.style = options.style;
  table.cos = Tensor::Uninitialized(positions.shape().Appended(half), dtype);
  table.sin = Tensor::Uninitialized(positions.shape().Appended(half), dtype);
  if (dtype == kF32) {
    FillTable<float>(positions, inv_freq, options.attention_scaling, table);
  } else {
    FillTable<double>(positions, inv_freq, options.attention_scaling, table);
  }
  return table;
}

Tensor Rotary(const Tensor& x, const RotaryTable& table) {
  RESIDUAL_CHECK_OP("rotary", x.rank() == 4 && IsFloat(x.dtype()), x, table.cos);
  RESIDUAL_CHECK_OP("rotary", table.cos.dtype() == (x.dtype() == kF64 ? kF64 : kF32), x, table.cos);
  RESIDUAL_CHECK_OP("rotary", table.cos.rank() == 2 || table.cos.rank() == 3, x, table.cos);
  RESIDUAL_CHECK_OP("rotary", table.cos.shape() == table.sin.shape(), x, table.cos, table.sin);
  RESIDUAL_CHECK_OP("rotary", table.cos.rank() == 2 || table.cos.dim(0) == x.dim(0), x, table.cos);
  RESIDUAL_CHECK_OP("rotary", table.cos.dim(-2) == x.dim(1), x, table.cos);
  RESIDUAL_CHECK_OP("rotary", 2 * table.cos.dim(-1) <= x.dim(3), x, table.cos);
  Tensor y = Rotated(x, table, false);
  // A rotation's transpose is the rotation by the negative angle (with the same scaling).
  if (Tape* tape = Tape::For({&x})) {
    tape->Record("rotary", {&x}, {&y}, [table](absl::Span<const Tensor> dy, Needs) {
      return TensorList{Rotated(dy[0], table, true)};
    });
  }
  return y;
}

Tensor Rotary(const Tensor& x, const Tensor& positions, const RotaryOptions& options) {
  RESIDUAL_CHECK_OP("rotary", x.rank() == 4 && IsFloat(x.dtype()), x, positions);
  return Rotary(x, MakeRotaryTable(positions, x.dim(3), options, x.dtype() == kF64 ? kF64 : kF32));
}

std::vector<double> ScaledFrequencies(int64_t rotary_dim, double theta,
                                      const RotaryScaling& scaling) {
  constexpr double kTurn = 2 * 3.14159265358979323846;
  std::vector<double> frequencies;
  for (int64_t i = 0; 2 * i < rotary_dim; ++i) {
    const double kept =
        std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim));
    const double stretched = kept / scaling.factor;
    double share = 1;  // of what is kept
    if (scaling.kind == RotaryScaling::kLinear) share = 0;
    if (scaling.kind == RotaryScaling::kLlama3) {
      const double turns = static_cast<double>(scaling.original_ctx) * kept / kTurn;
      share =
          (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
      share = std::min(std::max(share, 0.0), 1.0);
    }
    frequencies.push_back(share * kept + (1 - share) * stretched);
  }
  return frequencies;
}

}  // namespace residual
