#include "tensor/core/first_nan.h"

#include <cmath>

namespace residual {

std::optional<int64_t> FirstNaN(const Tensor& x) {
  std::optional<int64_t> found;
  if (!IsFloat(x.dtype())) return found;
  VisitDType(x.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const T* const values = x.data<T>();
    for (int64_t i = 0; i < x.elements() && !found.has_value(); ++i) {
      if (std::isnan(ToDouble(values[i]))) found = i;
    }
  });
  return found;
}

}  // namespace residual
