// What the Highway kernel of recurrences is given. Private to the folder.

#ifndef RESIDUAL_OPS_SSM_RECURRENCE_SSM_RECURRENCE_KERNELS_H_
#define RESIDUAL_OPS_SSM_RECURRENCE_SSM_RECURRENCE_KERNELS_H_

#include <cstdint>

namespace residual {
namespace ssm_internal {

constexpr int64_t kPad = 16;  // no vector of double is longer

// Channels [begin, end) of all sequences. numbers: PackedSsm's. state, after it last: [batch, H,
// modes, 2], state may be null. u, y: [batch, length, H].
template <class T>
struct Recurrence {
  int64_t batch, length, channels, modes, padded, rank;
  bool pairs;
  const double* numbers;
  const T *u, *state;
  T *y, *last;
};
void RunRecurrence(const Recurrence<float>& r, int64_t begin, int64_t end);
void RunRecurrence(const Recurrence<double>& r, int64_t begin, int64_t end);

}  // namespace ssm_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_SSM_RECURRENCE_SSM_RECURRENCE_KERNELS_H_
