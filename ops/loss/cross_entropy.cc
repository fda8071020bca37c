#include "ops/loss/cross_entropy.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "ops/loss/cross_entropy_kernels.h"
#include "ops/simd/stream.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

using loss_internal::CrossEntropyArgs;
using loss_internal::GradientArgs;
using loss_internal::RowStatistics;

// Rows per chunk: enough elements to be worth a thread, few enough that the logits of a chunk are
// still in cache when its gradient is made.
int64_t RowGrain(int64_t vocab) { return (1 << 14) / vocab; }

// The rows of one CrossEntropy.
class Rows {
 public:
  // Checks the operands. logits are f32, f64 or bf16 here.
  Rows(const char* op, const Tensor& logits, const Tensor& targets, int64_t ignore_index,
       double smoothing)
      : logits_(logits),
        targets_(ConvertTo(targets, kI64)),
        statistics_(Tensor::Uninitialized({targets.elements(), 2}, kF64)),
        ignore_index_(ignore_index),
        smoothing_(smoothing) {
    const int64_t *ids = targets_.data<int64_t>(), vocab = logits.dim(-1);
    for (int64_t i = 0; i < targets.elements(); ++i) {
      if (ids[i] == ignore_index) continue;
      RESIDUAL_CHECK(0 <= ids[i] && ids[i] < vocab)
          << op << ": target " << ids[i] << " at position " << i << " of " << targets.ToString()
          << " is not in [0, " << vocab << ")";
      ++counted_;
    }
  }

  int64_t counted() const { return counted_; }  // not ignored
  const Tensor& logits() const { return logits_; }

  // The losses in f64. With `gradient` also scale times the gradient of each loss.
  Tensor Losses(double scale, Tensor* gradient) {
    Tensor losses = Tensor::Uninitialized(targets_.shape(), kF64);
    const CrossEntropyArgs args = Args();
    double* to = losses.mutable_data<double>();
    const DType dtype = logits_.dtype();
    const auto kernel = dtype == kF32   ? loss_internal::LossesF32
                        : dtype == kF64 ? loss_internal::LossesF64
                                        : loss_internal::LossesBF16;
    if (gradient == nullptr) {
      ParallelFor(targets_.elements(), RowGrain(args.vocab),
                  [&](int64_t begin, int64_t end) { kernel(args, to, begin, end); });
      return losses;
    }
    const GradientArgs gradient_args = GradientInto(&scale, false, gradient);
    ParallelFor(targets_.elements(), RowGrain(args.vocab), [&](int64_t begin, int64_t end) {
      kernel(args, to, begin, end);
      RunGradient(args, gradient_args, begin, end);
    });
    return losses;
  }

  // After Losses: scales[r] times the gradient of each loss. scales: f64.
  Tensor Gradient(const Tensor& scales) {
    Tensor gradient;
    const CrossEntropyArgs args = Args();
    const GradientArgs gradient_args = GradientInto(scales.data<double>(), true, &gradient);
    ParallelFor(targets_.elements(), RowGrain(args.vocab),
                [&](int64_t begin, int64_t end) { RunGradient(args, gradient_args, begin, end); });
    return gradient;
  }

 private:
  CrossEntropyArgs Args() {
    // RowStatistics is two doubles.
    return {logits_.raw_data(), targets_.data<int64_t>(),
            logits_.dim(-1),    ignore_index_,
            smoothing_,         static_cast<RowStatistics*>(statistics_.mutable_raw_data())};
  }
  GradientArgs GradientInto(const double* scale, bool per_row, Tensor* gradient) const {
    *gradient = Tensor::Uninitialized(logits_.shape(), logits_.dtype());
    return {scale, per_row, PastCaches(gradient->bytes()), gradient->mutable_raw_data()};
  }
  void RunGradient(const CrossEntropyArgs& args, const GradientArgs& to, int64_t begin,
                   int64_t end) const {
    switch (logits_.dtype()) {
      case DType::kF32:
        return loss_internal::GradientF32(args, to, begin, end);
      case DType::kF64:
        return loss_internal::GradientF64(args, to, begin, end);
      default:
        return loss_internal::GradientBF16(args, to, begin, end);
    }
  }

  Tensor logits_, targets_, statistics_;
  int64_t ignore_index_, counted_ = 0;
  double smoothing_;
};

void CheckOperands(const char* op, const Tensor& logits, const Tensor& targets) {
  RESIDUAL_CHECK_OP(op, logits.defined() && targets.defined(), logits, targets);
  RESIDUAL_CHECK_OP(op, logits.rank() >= 1 && logits.dim(-1) >= 1, logits, targets);
  RESIDUAL_CHECK_OP(op, IsFloat(logits.dtype()), logits, targets);
  RESIDUAL_CHECK_OP(op, targets.shape() == logits.shape().Without(logits.rank() - 1), logits,
                    targets);
  RESIDUAL_CHECK_OP(op, targets.dtype() == kI64 || targets.dtype() == kI32, logits, targets);
  RESIDUAL_CHECK_OP(op, logits.device() == kCpu && targets.device() == kCpu, logits, targets);
}

// The kernels' dtypes; f16 is widened.
Tensor Computable(const Tensor& logits) {
  return logits.dtype() == kF16 ? ConvertTo(logits, kF32) : logits;
}

// factor * x in place; x is f32, f64 or bf16.
Tensor Scaled(Tensor x, double factor) {
  if (factor == 1) return x;
  if (!x.unique()) x = x.Clone();
  const auto scale = [&](auto* values, auto multiply) {
    ParallelFor(x.elements(), 1 << 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) values[i] = multiply(values[i]);
    });
  };
  const float f = static_cast<float>(factor);
  if (x.dtype() == kF32) {
    scale(x.mutable_data<float>(), [f](float v) { return v * f; });
  } else if (x.dtype() == kF64) {
    scale(x.mutable_data<double>(), [factor](double v) { return v * factor; });
  } else {
    scale(x.mutable_data<BFloat16>(),
          [f](BFloat16 v) { return BFloat16::FromFloat(v.ToFloat() * f); });
  }
  return x;
}

// sign * loss of every row, and its gradient.
Tensor RowLosses(const char* op, const Tensor& logits, const Tensor& targets, int64_t ignore_index,
                 double smoothing, double sign) {
  Rows rows(op, Computable(logits), targets, ignore_index, smoothing);
  const DType dtype = logits.dtype() == kF64 ? kF64 : kF32;
  Tensor y = ConvertTo(Scaled(rows.Losses(1, nullptr), sign), dtype);
  // dx[r] = sign * dy[r] * (softmax(x[r]) - wanted[r]).
  if (Tape* tape = Tape::For({&logits})) {
    tape->Record(op, {&logits}, {&y},
                 [rows = std::move(rows), sign, dtype = logits.dtype()](absl::Span<const Tensor> dy,
                                                                        Needs) mutable {
                   const Tensor scales = Scaled(ConvertTo(dy[0], kF64), sign);
                   return TensorList{ConvertTo(rows.Gradient(scales), dtype)};
                 });
  }
  return y;
}

}  // namespace

Tensor CrossEntropy(const Tensor& logits, const Tensor& targets,
                    const CrossEntropyOptions& options) {
  const char* op = "cross_entropy";
  CheckOperands(op, logits, targets);
  RESIDUAL_CHECK(0 <= options.label_smoothing && options.label_smoothing <= 1)
      << op << ": label_smoothing is " << options.label_smoothing;
  if (options.reduction == Reduction::kNone) {
    return RowLosses(op, logits, targets, options.ignore_index, options.label_smoothing, 1);
  }
  Rows rows(op, Computable(logits), targets, options.ignore_index, options.label_smoothing);
  // 0 / 0 without a row that counts.
  const double scale = options.reduction == Reduction::kMean ? 1.0 / rows.counted() : 1;
  Tape* tape = Tape::For({&logits});
  Tensor gradient;
  const Tensor losses = rows.Losses(scale, tape != nullptr ? &gradient : nullptr);
  double total = 0;
  for (double loss : losses.span<double>()) total += loss;
  Tensor y = Tensor::Scalar(total * scale, logits.dtype() == kF64 ? kF64 : kF32);
  // dx = dy * (softmax(x) - wanted) * scale. Made in the forward pass but for dy, which is one
  // number: the logits are in cache there, and need not be kept.
  if (tape != nullptr) {
    tape->Record(op, {&logits}, {&y},
                 [gradient = std::move(gradient), dtype = logits.dtype()](
                     absl::Span<const Tensor> dy, Needs) mutable {
                   const Tensor scaled = Scaled(std::move(gradient), dy[0].Item());
                   return TensorList{ConvertTo(scaled, dtype)};
                 });
  }
  return y;
}

Tensor TokenLogProbs(const Tensor& logits, const Tensor& targets) {
  CheckOperands("token_log_probs", logits, targets);
  return RowLosses("token_log_probs", logits, targets, std::numeric_limits<int64_t>::min(), 0, -1);
}

}  // namespace residual
