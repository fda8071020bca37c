// What ops/optimizer's kernels are given. Private to the folder.

#ifndef RESIDUAL_OPS_OPTIMIZER_OPTIMIZER_KERNELS_H_
#define RESIDUAL_OPS_OPTIMIZER_OPTIMIZER_KERNELS_H_

#include <cstdint>

namespace residual {
namespace optimizer_internal {

// Elements [begin, end). Pointers are to f32 (F32, and BF16 but for grad) or f64.
struct AdamArgs {
  void* param;
  void* exp_avg;
  void* exp_avg_sq;
  void* max_exp_avg_sq;  // null: not AMSGrad
  const void* grad;
  double grad_scale;
  double shrink;  // factor of the parameter: 1 - lr * weight_decay if decoupled, else 1
  double l2;      // weight_decay if added to the gradient, else 0
  double one_minus_beta1, beta2, one_minus_beta2, root_correction2, eps, step_size;
};
void AdamF32(const AdamArgs& args, int64_t begin, int64_t end);
void AdamF64(const AdamArgs& args, int64_t begin, int64_t end);
void AdamBF16(const AdamArgs& args, int64_t begin, int64_t end);

struct SgdArgs {
  void* param;
  void* buffer;  // null: no momentum
  const void* grad;
  double grad_scale, l2, momentum;
  double buffer_factor;  // momentum; 0 in the first step, when the buffer holds nothing yet
  double grad_factor;    // 1 - dampening; 1 in the first step
  bool nesterov;
  double lr;
};
void SgdF32(const SgdArgs& args, int64_t begin, int64_t end);
void SgdF64(const SgdArgs& args, int64_t begin, int64_t end);
void SgdBF16(const SgdArgs& args, int64_t begin, int64_t end);

// Sum of squares of n elements, in double.
double SquaresF32(const void* x, int64_t n);
double SquaresF64(const void* x, int64_t n);
double SquaresBF16(const void* x, int64_t n);

// Whether one of n elements is NaN or infinite. 16-bit floats: whether one has all the bits of
// `exponent` set.
bool AnyNonFiniteF32(const void* x, int64_t n);
bool AnyNonFiniteF64(const void* x, int64_t n);
bool AnyNonFinite16(const void* x, uint16_t exponent, int64_t n);

}  // namespace optimizer_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_OPTIMIZER_OPTIMIZER_KERNELS_H_
