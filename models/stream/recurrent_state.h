// What a mixer that is a recurrence remembers: tensors whose size does not grow with what was read.

#ifndef RESIDUAL_MODELS_STREAM_RECURRENT_STATE_H_
#define RESIDUAL_MODELS_STREAM_RECURRENT_STATE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "models/stream/mixer.h"

namespace residual {

class RecurrentState : public MixerState {
 public:
  struct Part {
    std::string name;  // in files
    Shape row;         // of one row of the batch
    // Summed up over all tokens: f32 or f64, however little the rest is computed in.
    bool sums = false;
    Tensor value = {};  // [batch, row...]; undefined before the first token
  };
  RecurrentState(int64_t batch, std::vector<Part> parts)
      : batch_(batch), parts_(std::move(parts)) {}

  // A class with members of its own overrides it.
  std::unique_ptr<MixerState> Fork() const override;
  // To 0 tokens. Unimplemented for any other past: what was forgotten cannot be had back. Fork
  // before, which copies nothing, and go on from the fork.
  absl::Status RollBack(int64_t length) override;
  std::unique_ptr<MixerState> Select(absl::Span<const int64_t> rows) const override;
  size_t bytes() const override;
  // The parts under their names, [batch, row...].
  void Save(StateWriter& writer) const override;
  absl::Status Load(int64_t batch, int64_t length, StateReader& reader) override;

  // Goes on by some tokens, to these values of the parts. They may be tracked by the current tape.
  void Advance(int64_t tokens, absl::Span<const Tensor> values);

  int64_t length() const { return length_; }
  // [batch, row...]; undefined before the first token.
  const Tensor& value(size_t part) const { return parts_[part].value; }

 private:
  int64_t batch_, length_ = 0;
  std::vector<Part> parts_;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_STREAM_RECURRENT_STATE_H_
