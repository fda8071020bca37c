// Where packed sequences begin. Private to the folder.

#ifndef RESIDUAL_OPS_SCAN_RESTARTS_H_
#define RESIDUAL_OPS_SCAN_RESTARTS_H_

#include <vector>

#include "tensor/core/tensor.h"

namespace residual {
namespace scan_internal {

// Of segments [batch, pos]: which positions are the first of their sequence, and not of their row.
// Empty without segments.
inline std::vector<unsigned char> Restarts(const Tensor& segments) {
  if (!segments.defined()) return {};
  const int64_t length = segments.dim(1);
  const int64_t* s = segments.data<int64_t>();
  std::vector<unsigned char> restart(segments.elements());
  for (int64_t i = 0; i < segments.elements(); ++i)
    restart[i] = i % length != 0 && s[i] != s[i - 1];
  return restart;
}

}  // namespace scan_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_SCAN_RESTARTS_H_
