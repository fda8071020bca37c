#include "models/mamba/recurrent_state.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "ops/embedding/embedding.h"
#include "ops/layout/layout.h"
#include "tensor/base/status_macros.h"

namespace residual {

std::unique_ptr<MixerState> RecurrentState::Fork() const {
  return std::make_unique<RecurrentState>(*this);  // tensors are values: sharing is safe
}

absl::Status RecurrentState::RollBack(int64_t length) {
  if (length == length_) return absl::OkStatus();
  if (length != 0) {
    return absl::UnimplementedError(
        absl::StrCat("cannot roll back to ", length, " tokens: the state of a recurrence keeps ",
                     "nothing of its ", length_, "; fork it before, and go on from the fork"));
  }
  length_ = 0;
  window_ = hidden_ = Tensor();
  return absl::OkStatus();
}

std::unique_ptr<MixerState> RecurrentState::Select(absl::Span<const int64_t> rows) const {
  const int64_t batch = static_cast<int64_t>(rows.size());
  auto selected = std::make_unique<RecurrentState>(batch, window_shape_, hidden_shape_);
  selected->length_ = length_;
  if (length_ > 0) {
    const Tensor indices = Tensor::Of<int64_t>({batch}, rows);
    selected->window_ = GatherRows(window_, indices);
    selected->hidden_ = GatherRows(hidden_, indices);
  }
  return selected;
}

void RecurrentState::Save(StateWriter& writer) const {
  writer.Write("conv", window_);
  writer.Write("ssm", hidden_);
}

absl::Status RecurrentState::Load(int64_t batch, int64_t length, StateReader& reader) {
  RESIDUAL_ASSIGN_OR_RETURN(window_, reader.ReadFloats("conv", window_shape_.Inserted(0, batch)));
  RESIDUAL_ASSIGN_OR_RETURN(hidden_, reader.ReadFloats("ssm", hidden_shape_.Inserted(0, batch)));
  if (hidden_.dtype() != kF64) hidden_ = ConvertTo(hidden_, kF32);
  batch_ = batch;
  length_ = length;
  return absl::OkStatus();
}

void RecurrentState::Advance(int64_t tokens, Tensor window, Tensor hidden) {
  RESIDUAL_CHECK(window.shape() == window_shape_.Inserted(0, batch_) &&
                 hidden.shape() == hidden_shape_.Inserted(0, batch_))
      << window.ToString() << ", " << hidden.ToString();
  length_ += tokens;
  window_ = std::move(window);
  hidden_ = std::move(hidden);
}

Tensor RecurrentState::window(DType dtype) const {
  return length_ == 0 ? Tensor() : Cast(window_, dtype);
}

}  // namespace residual
