// What an S4 mixer remembers: the state x of every channel. Its size does not grow with what was
// read.

#ifndef RESIDUAL_MODELS_S4_MIXER_S4_STATE_H_
#define RESIDUAL_MODELS_S4_MIXER_S4_STATE_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "models/stream/mixer.h"
#include "ops/ssm_recurrence/ssm_recurrence.h"

namespace residual {

class S4State : public MixerState {
 public:
  S4State(int64_t batch, int64_t channels, int64_t modes)
      : batch_(batch), row_shape_({channels, modes, 2}) {}

  std::unique_ptr<MixerState> Fork() const override;
  // To 0 tokens. Unimplemented for any other past: what was forgotten cannot be had back. Fork
  // before, which copies nothing, and go on from the fork.
  absl::Status RollBack(int64_t length) override;
  std::unique_ptr<MixerState> Select(absl::Span<const int64_t> rows) const override;
  size_t bytes() const override { return length_ == 0 ? 0 : hidden_.bytes(); }
  // "ssm" [batch, channels, modes, 2].
  void Save(StateWriter& writer) const override;
  absl::Status Load(int64_t batch, int64_t length, StateReader& reader) override;

  void Advance(int64_t tokens, Tensor hidden);
  // [batch, channels, modes, 2] in this dtype; undefined before the first token.
  Tensor hidden(DType dtype) const;
  int64_t length() const { return length_; }

  // The system that the parameters make, discretised and packed: made when it is first asked for
  // and again when the parameters are others. The state holds on to them, so nobody writes them
  // meanwhile (writing needs the only handle); forks share it.
  const PackedSsm& SystemOf(const TensorList& parameters, const std::function<DiscreteSsm()>& make);

 private:
  struct Made {
    TensorList parameters;
    PackedSsm system;
  };
  int64_t batch_, length_ = 0;
  Shape row_shape_;
  Tensor hidden_;
  std::shared_ptr<const Made> made_;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_S4_MIXER_S4_STATE_H_
