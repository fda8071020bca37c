#include "models/stream/recurrent_state.h"

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
  for (Part& part : parts_) part.value = Tensor();
  return absl::OkStatus();
}

std::unique_ptr<MixerState> RecurrentState::Select(absl::Span<const int64_t> rows) const {
  std::unique_ptr<MixerState> fork = Fork();
  auto& selected = static_cast<RecurrentState&>(*fork);
  selected.batch_ = static_cast<int64_t>(rows.size());
  if (length_ > 0) {
    const Tensor indices = Tensor::Of<int64_t>({selected.batch_}, rows);
    for (Part& part : selected.parts_) part.value = GatherRows(part.value, indices);
  }
  return fork;
}

size_t RecurrentState::bytes() const {
  size_t bytes = 0;
  if (length_ > 0) {
    for (const Part& part : parts_) bytes += part.value.bytes();
  }
  return bytes;
}

void RecurrentState::Save(StateWriter& writer) const {
  for (const Part& part : parts_) writer.Write(part.name, part.value);
}

absl::Status RecurrentState::Load(int64_t batch, int64_t length, StateReader& reader) {
  for (Part& part : parts_) {
    RESIDUAL_ASSIGN_OR_RETURN(part.value,
                              reader.ReadFloats(part.name, part.row.Inserted(0, batch)));
    if (part.sums && part.value.dtype() != kF64) part.value = ConvertTo(part.value, kF32);
  }
  batch_ = batch;
  length_ = length;
  return absl::OkStatus();
}

void RecurrentState::Advance(int64_t tokens, absl::Span<const Tensor> values) {
  RESIDUAL_CHECK(values.size() == parts_.size()) << values.size();
  length_ += tokens;
  for (size_t i = 0; i < values.size(); ++i) {
    RESIDUAL_CHECK(values[i].shape() == parts_[i].row.Inserted(0, batch_))
        << parts_[i].name << ": " << values[i].ToString();
    parts_[i].value = values[i];
  }
}

}  // namespace residual
