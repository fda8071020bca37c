#include "models/s4/mixer/s4_state.h"

#include "ops/layout/layout.h"

namespace residual {

Tensor S4State::hidden(DType dtype) const {
  return length() == 0 ? Tensor() : ConvertTo(value(0), dtype);
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
