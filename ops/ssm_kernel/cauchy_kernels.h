// What the Highway kernels of Cauchy sums are given. Private to the folder.
//
// At a node theta with s = sin theta, c = cos theta, and lambda_n = dt/2 Lambda_n:
//   a mode                    R_n = 1 / (i s - c lambda_n)
//   a pair of conjugates      R_n = 1 / ((i s - c lambda_n) (i s - c conj(lambda_n)))
// and a sum f = sum_n v_n / (i s - c lambda_n), or that plus the one of all conjugates, is
//   f = alpha sum_n a_n R_n + i beta sum_n b_n R_n
//   a mode: a = Re v, b = Im v, alpha = beta = 1
//   a pair: a = Re(v conj(lambda)), b = Re v, alpha = -2c, beta = 2s
// so that both cost four real multiplications for each mode and node.

#ifndef RESIDUAL_OPS_SSM_KERNEL_CAUCHY_KERNELS_H_
#define RESIDUAL_OPS_SSM_KERNEL_CAUCHY_KERNELS_H_

#include <cstdint>

namespace residual {
namespace ssm_internal {

// Nodes of a block; a multiple of any number of lanes.
constexpr int64_t kNodes = 128;

// Sine and cosine as the sum of two numbers each; [kNodes], padded with any nodes.
template <class T>
struct Nodes {
  const T *s, *s_low, *c, *c_low;
};

template <class T>
struct CauchyModes {
  int64_t modes, sums;
  bool pairs;
  const T *re, *im, *im_low;  // of lambda, [modes]; im is the sum of two
  const T *a, *b;             // [sums, modes]
};

// to: [sums, 4, kNodes]: sum a Re R, sum a Im R, sum b Re R, sum b Im R. resolvents: [modes, 2,
// kNodes], R.
void CauchySums(const CauchyModes<float>& x, const Nodes<float>& nodes, float* resolvents,
                float* to);
void CauchySums(const CauchyModes<double>& x, const Nodes<double>& nodes, double* resolvents,
                double* to);

// Adds up over the nodes, for the gradients g of the sums f, given as h = alpha g and k = -i beta
// g, [sums, 4, kNodes] of h re, h im, k re, k im; both zero beyond the last node:
//   da [sums, modes]   sum h . R           db           sum k . R
//   first, second [modes], with gE = -conj(R)^2 sum (a h + b k), the gradient of 1 / R:
//     a mode: sum c Re gE, sum c Im gE     a pair: sum c^2 Re gE, sum 2 s c Im gE
template <class T>
struct CauchyGradients {
  double *da, *db, *first, *second;
};
void AddCauchyGradients(const CauchyModes<float>& x, const Nodes<float>& nodes,
                        const float* resolvents, const float* h, const CauchyGradients<float>& to);
void AddCauchyGradients(const CauchyModes<double>& x, const Nodes<double>& nodes,
                        const double* resolvents, const double* h,
                        const CauchyGradients<double>& to);

}  // namespace ssm_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_SSM_KERNEL_CAUCHY_KERNELS_H_
