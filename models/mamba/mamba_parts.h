// What the mixers of this folder have in common.

#ifndef RESIDUAL_MODELS_MAMBA_MAMBA_PARTS_H_
#define RESIDUAL_MODELS_MAMBA_MAMBA_PARTS_H_

#include <cstdint>
#include <memory>

#include "absl/types/span.h"
#include "models/stream/mixer.h"
#include "models/stream/recurrent_state.h"
#include "models/stream/token_mask.h"
#include "tensor/core/tensor.h"

namespace residual {

// The steps delta at the start: exp(U(log min, log max)), at least floor (Gu and Dao 2023, 3.6).
struct StepInit {
  double min = 0.001, max = 0.1, floor = 1e-4;
};
// Of the bias that softplus makes such steps of.
Init StepBias(const StepInit& steps);

// U(-1/sqrt(fan_in), 1/sqrt(fan_in)) times `scale`: how linear layers and convolutions start in
// the reference.
Init FanIn(int64_t fan_in, double scale = 1);

// What is remembered: the last inputs of the convolution and the state of the scan.
class MambaState : public RecurrentState {
 public:
  // window: [channels, width - 1] and hidden: the shape of the scan's state, of one row.
  MambaState(int64_t batch, const Shape& window, const Shape& hidden)
      : RecurrentState(batch, {{"conv", window}, {"ssm", hidden, /*sums=*/true}}) {}

  std::unique_ptr<MixerState> Fork() const override { return std::make_unique<MambaState>(*this); }
  void Advance(int64_t tokens, const Tensor& window, const Tensor& hidden) {
    RecurrentState::Advance(tokens, {window, hidden});
  }
  // [batch, channels, width - 1] in this dtype, and [batch, ...]; undefined before the first token.
  Tensor window(DType dtype) const;
  const Tensor& hidden() const { return value(1); }

  Tensor rates;  // see Rates; no part of what is remembered
};

// A = -exp(A_log). `fixed`: A_log does not change while the state lives, which then keeps A: at
// d_inner 1536 and d_state 16 making it anew is 5 % of a token.
Tensor Rates(const Tensor& A_log, DType dtype, bool fixed, MambaState* state);

// Parts of the last axis, of these sizes; without a copy where nothing has to move.
TensorList SplitLast(const Tensor& x, absl::Span<const int64_t> sizes);

// h_t = decay_t h_{t-1} + write_t over the second axis of [batch, pos, ...]. initial: [batch, ...]
// or undefined. segments: as MixerContext has them.
Tensor Recur(const Tensor& decay, const Tensor& write, const Tensor& initial,
             const Tensor& segments);

// What a scan with these steps and rates amounts to (ops/scan/hidden_attention.h) in these units.
// delta: [batch, pos, units], after softplus; A: [units, state]; B, C: [batch, pos, (groups,)
// state].
Tensor ScanMaps(const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                absl::Span<const int64_t> units);
// exp(delta A) of the state dimension with the least |A|.
Retention ScanMemory(const Tensor& delta, const Tensor& A);

}  // namespace residual

#endif  // RESIDUAL_MODELS_MAMBA_MAMBA_PARTS_H_
