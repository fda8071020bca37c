// What a mixer made of a convolution and a recurrence remembers: the last inputs of the one, the
// state of the other. Its size does not grow with what was read.

#ifndef RESIDUAL_MODELS_MAMBA_RECURRENT_STATE_H_
#define RESIDUAL_MODELS_MAMBA_RECURRENT_STATE_H_

#include <cstdint>
#include <memory>

#include "models/stream/mixer.h"

namespace residual {

class RecurrentState : public MixerState {
 public:
  // window: [channels, width - 1] and hidden: the shape of the recurrence's state, of one row.
  RecurrentState(int64_t batch, const Shape& window, const Shape& hidden)
      : batch_(batch), window_shape_(window), hidden_shape_(hidden) {}

  std::unique_ptr<MixerState> Fork() const override;
  // To 0 tokens. Unimplemented for any other past: what was forgotten cannot be had back. Fork
  // before, which copies nothing, and go on from the fork.
  absl::Status RollBack(int64_t length) override;
  std::unique_ptr<MixerState> Select(absl::Span<const int64_t> rows) const override;
  size_t bytes() const override { return length_ == 0 ? 0 : window_.bytes() + hidden_.bytes(); }
  // "conv" [batch, channels, width - 1] and "ssm" [batch, ...].
  void Save(StateWriter& writer) const override;
  absl::Status Load(int64_t batch, int64_t length, StateReader& reader) override;

  // Goes on by some tokens. The tensors may be tracked by the current tape.
  void Advance(int64_t tokens, Tensor window, Tensor hidden);

  int64_t length() const { return length_; }
  // [batch, channels, width - 1] in this dtype, and [batch, ...]; undefined before the first token.
  Tensor window(DType dtype) const;
  const Tensor& hidden() const { return hidden_; }

  // What a mixer whose parameters do not change keeps from one call to the next; no part of what
  // is remembered.
  Tensor& constants() { return constants_; }

 private:
  int64_t batch_, length_ = 0;
  Shape window_shape_, hidden_shape_;
  Tensor window_, hidden_, constants_;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_MAMBA_RECURRENT_STATE_H_
