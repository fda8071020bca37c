// What the kernels of the linear recurrence are given. Private to the folder.

#ifndef RESIDUAL_OPS_SCAN_LINEAR_RECURRENCE_KERNELS_H_
#define RESIDUAL_OPS_SCAN_LINEAR_RECURRENCE_KERNELS_H_

#include <cstdint>

namespace residual {
namespace scan_internal {

// One row of the batch: a, b, h are [length, dim], of which the channels [begin, end) are computed;
// initial, [dim], may be null.
template <class T>
struct Recurrence {
  int64_t length, dim;
  const T *a, *b, *initial;
  T* h;
};
void RecurrenceForward(const Recurrence<float>& r, int64_t begin, int64_t end);
void RecurrenceForward(const Recurrence<double>& r, int64_t begin, int64_t end);

// g_t = dh_t + a_{t+1} g_{t+1};  da_t = g_t h_{t-1},  db_t = g_t,  dinitial = a_0 g_0.
template <class T>
struct RecurrenceGradients {
  int64_t length, dim;
  const T *a, *h, *initial, *dh;
  T *da, *db, *dinitial;
};
void RecurrenceBackward(const RecurrenceGradients<float>& r, int64_t begin, int64_t end);
void RecurrenceBackward(const RecurrenceGradients<double>& r, int64_t begin, int64_t end);

}  // namespace scan_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_SCAN_LINEAR_RECURRENCE_KERNELS_H_
