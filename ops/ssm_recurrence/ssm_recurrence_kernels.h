// What the Highway kernel of recurrences is given. Private to the folder.

#ifndef RESIDUAL_OPS_SSM_RECURRENCE_SSM_RECURRENCE_KERNELS_H_
#define RESIDUAL_OPS_SSM_RECURRENCE_SSM_RECURRENCE_KERNELS_H_

#include <cstdint>

namespace residual {
namespace ssm_internal {

// One channel of one sequence. Modes are padded with zeros to a multiple of 16; real parts lie
// before imaginary ones: [2, modes], left and right [rank, 2, modes].
struct Recurrence {
  int64_t modes, rank, length;
  bool pairs;
  const double *a, *b, *c, *left, *right;
  double* x;        // [2, modes], before and after
  const double* u;  // [length]
  double* y;        // [length]
};
void RunRecurrence(const Recurrence& r);

}  // namespace ssm_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_SSM_RECURRENCE_SSM_RECURRENCE_KERNELS_H_
