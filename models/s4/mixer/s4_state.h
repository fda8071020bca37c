// What an S4 mixer remembers: the state x of every channel.

#ifndef RESIDUAL_MODELS_S4_MIXER_S4_STATE_H_
#define RESIDUAL_MODELS_S4_MIXER_S4_STATE_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "models/stream/recurrent_state.h"
#include "ops/ssm_recurrence/ssm_recurrence.h"

namespace residual {

class S4State : public RecurrentState {
 public:
  // In files "ssm" [batch, channels, modes, 2].
  S4State(int64_t batch, int64_t channels, int64_t modes)
      : RecurrentState(batch, {{"ssm", {channels, modes, 2}, /*sums=*/true}}) {}

  std::unique_ptr<MixerState> Fork() const override { return std::make_unique<S4State>(*this); }
  // [batch, channels, modes, 2] in this dtype; undefined before the first token.
  Tensor hidden(DType dtype) const;

  // The system that the parameters make, discretised and packed: made when it is first asked for
  // and again when the parameters are others. The state holds on to them, so nobody writes them
  // meanwhile (writing needs the only handle); forks share it.
  const PackedSsm& SystemOf(const TensorList& parameters, const std::function<DiscreteSsm()>& make);

 private:
  struct Made {
    TensorList parameters;
    PackedSsm system;
  };
  std::shared_ptr<const Made> made_;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_S4_MIXER_S4_STATE_H_
