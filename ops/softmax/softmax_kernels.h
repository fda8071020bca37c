// Private: rows of n contiguous floats.

#ifndef RESIDUAL_OPS_SOFTMAX_SOFTMAX_KERNELS_H_
#define RESIDUAL_OPS_SOFTMAX_SOFTMAX_KERNELS_H_

#include <cstdint>

namespace residual {

// `stream`: the result is written past the caches; it is no input then.
struct SoftmaxArgs {
  const float* x;
  float* y;
  int64_t n;
  bool stream;
};

void SoftmaxCpu(const SoftmaxArgs& args, int64_t begin, int64_t end);
void LogSoftmaxCpu(const SoftmaxArgs& args, int64_t begin, int64_t end);

struct SoftmaxBackwardArgs {
  const float* y;
  const float* dy;
  float* dx;
  int64_t n;
  bool stream;
};

// dx = y (dy - sum(dy y))
void SoftmaxBackwardCpu(const SoftmaxBackwardArgs& args, int64_t begin, int64_t end);
// dx = dy - e^y sum(dy)
void LogSoftmaxBackwardCpu(const SoftmaxBackwardArgs& args, int64_t begin, int64_t end);

}  // namespace residual

#endif  // RESIDUAL_OPS_SOFTMAX_SOFTMAX_KERNELS_H_
