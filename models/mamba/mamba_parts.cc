#include "models/mamba/mamba_parts.h"

#include <algorithm>
#include <cmath>

#include "ops/elementwise/elementwise.h"
#include "ops/layout/layout.h"
#include "ops/scan/hidden_attention.h"
#include "ops/scan/linear_recurrence.h"
#include "ops/scan/selective_scan.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/random.h"

namespace residual {

Init StepBias(const StepInit& steps) {
  const auto fill = [steps](Tensor& bias, uint64_t seed, uint64_t stream) {
    const Philox random(seed, stream);
    const double low = std::log(steps.min), high = std::log(steps.max);
    for (int64_t i = 0; i < bias.elements(); ++i) {
      const double drawn = std::exp(low + (high - low) * random.UniformDouble(i));
      const double step = std::max(drawn, steps.floor);
      bias.mutable_data<double>()[i] = step + std::log(-std::expm1(-step));
    }
  };
  return {Init::kCustom, 0, fill};
}

Init FanIn(int64_t fan_in, double scale) {
  return Init::Uniform(scale / std::sqrt(static_cast<double>(fan_in)));
}

Tensor MambaState::window(DType dtype) const {
  return length() == 0 ? Tensor() : Cast(value(0), dtype);
}

Tensor Rates(const Tensor& A_log, DType dtype, bool fixed, MambaState* state) {
  const bool keeps = fixed && state != nullptr && Tape::For({&A_log}) == nullptr;
  if (keeps && state->rates.defined()) return state->rates;
  const Tensor A = Scale(Exp(Cast(A_log, dtype)), -1);
  if (keeps) state->rates = A;
  return A;
}

TensorList SplitLast(const Tensor& x, absl::Span<const int64_t> sizes) {
  if (x.elements() != x.dim(-1) || Tape::For({&x}) != nullptr) return Split(x, -1, sizes);
  const Tensor row = x.Reshaped({x.elements()});
  TensorList parts;
  int64_t begin = 0;
  for (const int64_t size : sizes) {
    parts.push_back(row.Rows(begin, begin + size).Reshaped(x.shape().With(-1, size)));
    begin += size;
  }
  return parts;
}

Tensor Recur(const Tensor& decay, const Tensor& write, const Tensor& initial,
             const Tensor& segments) {
  const int64_t batch = decay.dim(0), pos = decay.dim(1);
  const int64_t n = decay.shape().elements(2, decay.rank());
  Tensor a = decay.Reshaped({batch, pos, n});
  if (segments.defined()) {
    Tensor goes_on = Tensor::Full({batch, pos, 1}, 1);
    const int64_t* s = segments.data<int64_t>();
    for (int64_t i = 0; i < batch * pos; ++i) {
      if (i % pos > 0 && s[i] != s[i - 1]) goes_on.mutable_data<float>()[i] = 0;
    }
    a = Masked(a, ConvertTo(goes_on, a.dtype()));
  }
  const Tensor before = initial.defined() ? initial.Reshaped({batch, n}) : initial;
  return LinearRecurrence(a, write.Reshaped({batch, pos, n}), before).Reshaped(decay.shape());
}

Tensor ScanMaps(const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                absl::Span<const int64_t> units) {
  SelectiveScanInputs scan;
  scan.u = scan.delta = ConvertTo(delta, kF32);
  scan.A = ConvertTo(A, kF32);
  scan.B = ConvertTo(B, kF32);
  scan.C = ConvertTo(C, kF32);
  return HiddenAttention(scan, units);
}

Retention ScanMemory(const Tensor& delta, const Tensor& A) {
  const int64_t units = A.dim(0), state = A.dim(1);
  const std::vector<double> rates = A.ToDoubles(), steps = delta.ToDoubles();
  std::vector<double> slowest(units);
  for (int64_t i = 0; i < units; ++i) {
    // A is negative.
    slowest[i] = *std::max_element(rates.begin() + i * state, rates.begin() + (i + 1) * state);
  }
  Retention memory{ConvertTo(delta, kF32), Tensor::Uninitialized(delta.shape())};
  float* kept = memory.kept.mutable_data<float>();
  for (size_t i = 0; i < steps.size(); ++i) {
    kept[i] = static_cast<float>(std::exp(steps[i] * slowest[i % units]));
  }
  return memory;
}

}  // namespace residual
