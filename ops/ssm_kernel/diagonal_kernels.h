// What the Highway kernels of diagonal systems are given. Private to the folder.

#ifndef RESIDUAL_OPS_SSM_KERNEL_DIAGONAL_KERNELS_H_
#define RESIDUAL_OPS_SSM_KERNEL_DIAGONAL_KERNELS_H_

#include <cstdint>

namespace residual {
namespace ssm_internal {

// Modes are padded to a multiple of this, and so are columns of products: no vector is larger.
constexpr int64_t kPad = 16;

// Row t of re and im, `stride` numbers apart, is start z^t, t < count; n modes, a multiple of kPad.
template <class T>
struct Powers {
  int64_t n, count, stride;
  const double *z_re, *z_im, *start_re, *start_im;
  T *re, *im;
};
void ModePowers(const Powers<float>& p);
void ModePowers(const Powers<double>& p);

// to [rows, columns] = a [rows, inner] b [inner, columns], densely; columns a multiple of kPad.
template <class T>
struct SmallProduct {
  int64_t rows, inner, columns;
  const T *a, *b;
  T* to;
};
void Multiply(const SmallProduct<float>& p);
void Multiply(const SmallProduct<double>& p);

// What the gradient sums up per mode: s0 = sum_a E_a T_a, s1 = sum_a E_a (W a T_a + U_a). E: [rows,
// 2 n], t: [rows, 4 n] of T re, T im, U re, U im.
template <class T>
struct ModeSums {
  int64_t rows, n, width;
  const double* e;
  const T* t;
  double *s0_re, *s0_im, *s1_re, *s1_im;  // [n]
};
void SumModes(const ModeSums<float>& s);
void SumModes(const ModeSums<double>& s);

}  // namespace ssm_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_SSM_KERNEL_DIAGONAL_KERNELS_H_
