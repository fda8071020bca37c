#include "models/s4/mixer/s4_state.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "ops/embedding/embedding.h"
#include "ops/layout/layout.h"
#include "tensor/base/status_macros.h"

namespace residual {

std::unique_ptr<MixerState> S4State::Fork() const {
  return std::make_unique<S4State>(*this);  // tensors are values: sharing is safe
}

absl::Status S4State::RollBack(int64_t length) {
  if (length == length_) return absl::OkStatus();
  if (length != 0) {
    return absl::UnimplementedError(
        absl::StrCat("cannot roll back to ", length, " tokens: the state of a recurrence keeps ",
                     "nothing of its ", length_, "; fork it before, and go on from the fork"));
  }
  length_ = 0;
  hidden_ = Tensor();
  return absl::OkStatus();
}

std::unique_ptr<MixerState> S4State::Select(absl::Span<const int64_t> rows) const {
  auto selected = std::make_unique<S4State>(*this);
  selected->batch_ = static_cast<int64_t>(rows.size());
  if (length_ > 0) {
    selected->hidden_ = GatherRows(hidden_, Tensor::Of<int64_t>({selected->batch_}, rows));
  }
  return selected;
}

void S4State::Save(StateWriter& writer) const { writer.Write("ssm", hidden_); }

absl::Status S4State::Load(int64_t batch, int64_t length, StateReader& reader) {
  RESIDUAL_ASSIGN_OR_RETURN(hidden_, reader.ReadFloats("ssm", row_shape_.Inserted(0, batch)));
  if (hidden_.dtype() != kF64) hidden_ = ConvertTo(hidden_, kF32);
  batch_ = batch;
  length_ = length;
  return absl::OkStatus();
}

void S4State::Advance(int64_t tokens, Tensor hidden) {
  RESIDUAL_CHECK(hidden.shape() == row_shape_.Inserted(0, batch_)) << hidden.ToString();
  length_ += tokens;
  hidden_ = std::move(hidden);
}

Tensor S4State::hidden(DType dtype) const {
  return length_ == 0 ? Tensor() : ConvertTo(hidden_, dtype);
}

const PackedSsm& S4State::SystemOf(const TensorList& parameters,
                                   const std::function<DiscreteSsm()>& make) {
  bool same = made_ != nullptr && made_->parameters.size() == parameters.size();
  for (size_t i = 0; same && i < parameters.size(); ++i) {
    same = made_->parameters[i].raw_data() == parameters[i].raw_data();
  }
  if (!same) made_ = std::make_shared<Made>(Made{parameters, Pack(make())});
  return made_->system;
}

}  // namespace residual
