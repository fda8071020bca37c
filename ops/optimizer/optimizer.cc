#include "ops/optimizer/optimizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "ops/optimizer/optimizer_kernels.h"
#include "tensor/base/parallel.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

using optimizer_internal::AdamArgs;
using optimizer_internal::SgdArgs;

constexpr int64_t kStepGrain = 1 << 15;  // elements
constexpr int64_t kScanGrain = 1 << 16;

bool Is16Bit(DType dtype) { return dtype == kBF16 || dtype == kF16; }

// The state of a 16-bit parameter is f32.
DType StateDType(const Tensor& param) { return param.dtype() == kF64 ? kF64 : kF32; }

void CheckParam(const char* op, const Tensor& param, const Tensor& grad) {
  RESIDUAL_CHECK_OP(op, IsFloat(param.dtype()) && param.device() == kCpu, param, grad);
  RESIDUAL_CHECK_OP(op, grad.defined() && IsFloat(grad.dtype()), param, grad);
  RESIDUAL_CHECK_OP(op, grad.shape() == param.shape() && grad.device() == kCpu, param, grad);
}

void CheckState(const char* op, const Tensor& param, const Tensor& state) {
  RESIDUAL_CHECK_OP(op, state.defined() && state.shape() == param.shape(), param, state);
  RESIDUAL_CHECK_OP(op, state.dtype() == StateDType(param), param, state);
}

// A dtype that the kernels take beside f32 or f64 parameters.
Tensor UsableGrad(const Tensor& grad, DType param) {
  return param == kF32 && grad.dtype() == kBF16 ? grad : ConvertTo(grad, param);
}

// Runs a step on a 16-bit parameter in f32.
template <class Step>
void InF32(Tensor& param, Step step) {
  Tensor wide = ConvertTo(param, kF32);
  step(wide);
  CopyBytes(ConvertTo(wide, param.dtype()), param);
}

template <class Args>
void RunStep(const Args& args, int64_t n, void (*kernel)(const Args&, int64_t, int64_t)) {
  ParallelFor(n, kStepGrain, [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}

}  // namespace

void AdamStep(Tensor& param, Tensor& exp_avg, Tensor& exp_avg_sq, const Tensor& grad,
              const AdamOptions& options, Tensor* max_exp_avg_sq) {
  const char* op = "adam_step";
  CheckParam(op, param, grad);
  CheckState(op, param, exp_avg);
  CheckState(op, param, exp_avg_sq);
  if (max_exp_avg_sq != nullptr) CheckState(op, param, *max_exp_avg_sq);
  RESIDUAL_CHECK_GE(options.step, 1) << op << " counts steps from 1";
  if (Is16Bit(param.dtype())) {
    return InF32(param, [&](Tensor& wide) {
      AdamStep(wide, exp_avg, exp_avg_sq, grad, options, max_exp_avg_sq);
    });
  }
  const Tensor usable = UsableGrad(grad, param.dtype());
  const double correction1 = 1 - std::pow(options.beta1, options.step);
  const double correction2 = 1 - std::pow(options.beta2, options.step);
  AdamArgs args;
  args.param = param.mutable_raw_data();
  args.exp_avg = exp_avg.mutable_raw_data();
  args.exp_avg_sq = exp_avg_sq.mutable_raw_data();
  args.max_exp_avg_sq = max_exp_avg_sq != nullptr ? max_exp_avg_sq->mutable_raw_data() : nullptr;
  args.grad = usable.raw_data();
  args.grad_scale = options.grad_scale;
  args.shrink = options.decoupled ? 1 - options.lr * options.weight_decay : 1;
  args.l2 = options.decoupled ? 0 : options.weight_decay;
  args.one_minus_beta1 = 1 - options.beta1;
  args.beta2 = options.beta2;
  args.one_minus_beta2 = 1 - options.beta2;
  args.root_correction2 = std::sqrt(correction2);
  args.eps = options.eps;
  args.step_size = options.lr / correction1;
  RunStep(args, param.elements(),
          usable.dtype() == kF32   ? optimizer_internal::AdamF32
          : usable.dtype() == kF64 ? optimizer_internal::AdamF64
                                   : optimizer_internal::AdamBF16);
}

void SgdStep(Tensor& param, Tensor& momentum_buffer, const Tensor& grad,
             const SgdOptions& options) {
  const char* op = "sgd_step";
  CheckParam(op, param, grad);
  if (Is16Bit(param.dtype())) {
    return InF32(param, [&](Tensor& wide) { SgdStep(wide, momentum_buffer, grad, options); });
  }
  const bool has_momentum = options.momentum != 0, first = !momentum_buffer.defined();
  if (has_momentum && first) {
    momentum_buffer = Tensor::Uninitialized(param.shape(), StateDType(param));
  }
  if (has_momentum) CheckState(op, param, momentum_buffer);
  const Tensor usable = UsableGrad(grad, param.dtype());
  SgdArgs args;
  args.param = param.mutable_raw_data();
  args.buffer = has_momentum ? momentum_buffer.mutable_raw_data() : nullptr;
  args.grad = usable.raw_data();
  args.grad_scale = options.grad_scale;
  args.l2 = options.weight_decay;
  args.momentum = options.momentum;
  args.buffer_factor = first ? 0 : options.momentum;
  args.grad_factor = first ? 1 : 1 - options.dampening;
  args.nesterov = options.nesterov;
  args.lr = options.lr;
  RunStep(args, param.elements(),
          usable.dtype() == kF32   ? optimizer_internal::SgdF32
          : usable.dtype() == kF64 ? optimizer_internal::SgdF64
                                   : optimizer_internal::SgdBF16);
}

double GlobalNorm(absl::Span<const Tensor> tensors) {
  // The chunks of all tensors at once: many are of one chunk, or less.
  struct Chunk {
    double (*kernel)(const void*, int64_t);
    const void* data;
    int64_t n;
  };
  std::vector<Chunk> chunks;
  std::vector<Tensor> widened;
  for (const Tensor& tensor : tensors) {
    if (!tensor.defined()) continue;
    RESIDUAL_CHECK_OP("global_norm", IsFloat(tensor.dtype()) && tensor.device() == kCpu, tensor);
    const Tensor x = tensor.dtype() == kF16 ? ConvertTo(tensor, kF32) : tensor;
    if (tensor.dtype() == kF16) widened.push_back(x);
    const auto kernel = x.dtype() == kF32   ? optimizer_internal::SquaresF32
                        : x.dtype() == kF64 ? optimizer_internal::SquaresF64
                                            : optimizer_internal::SquaresBF16;
    const char* data = static_cast<const char*>(x.raw_data());
    for (int64_t begin = 0; begin < x.elements(); begin += kScanGrain) {
      chunks.push_back(
          {kernel, data + begin * SizeOf(x.dtype()), std::min(kScanGrain, x.elements() - begin)});
    }
  }
  std::vector<double> sums(chunks.size());
  ParallelFor(sums.size(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) sums[i] = chunks[i].kernel(chunks[i].data, chunks[i].n);
  });
  double total = 0;
  for (double sum : sums) total += sum;
  return std::sqrt(total);
}

double ClipScale(double norm, double max_norm) { return std::min(1.0, max_norm / (norm + 1e-6)); }

std::optional<int64_t> FirstNonFinite(const Tensor& x) {
  RESIDUAL_CHECK_OP("first_non_finite", x.defined() && IsFloat(x.dtype()), x);
  RESIDUAL_CHECK_OP("first_non_finite", x.device() == kCpu, x);
  const char* data = static_cast<const char*>(x.raw_data());
  const int64_t element = SizeOf(x.dtype());
  const auto any = [&](int64_t begin, int64_t end) {
    const void* from = data + begin * element;
    switch (x.dtype()) {
      case DType::kF32:
        return optimizer_internal::AnyNonFiniteF32(from, end - begin);
      case DType::kF64:
        return optimizer_internal::AnyNonFiniteF64(from, end - begin);
      default:
        return optimizer_internal::AnyNonFinite16(from, x.dtype() == kBF16 ? 0x7f80 : 0x7c00,
                                                  end - begin);
    }
  };
  const int64_t n = x.elements();
  absl::InlinedVector<bool, 64> found(NumChunks(n, kScanGrain), false);
  ParallelFor(n, kScanGrain,
              [&](int64_t begin, int64_t end) { found[begin / kScanGrain] = any(begin, end); });
  const auto chunk = std::find(found.begin(), found.end(), true);
  if (chunk == found.end()) return std::nullopt;
  // One of these.
  int64_t i = (chunk - found.begin()) * kScanGrain;
  while (!any(i, i + 1)) ++i;
  return i;
}

}  // namespace residual
