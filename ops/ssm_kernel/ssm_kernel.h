// Convolution kernels of linear state-space systems, one per channel:
//
//   x' = A x + B u,  y = C x   ->   K_l = C A_bar^l B_bar,  l = 0 .. L-1,   y = K * u
//
//   H  channels, each with its step size dt
//   N  modes: states, or pairs of conjugate states of which one is stored
//   r  rank of the part of A that is not diagonal
//
// Complex operands have a last axis of (re, im). A, Lambda, B are [H, N, 2], or [N, 2] for all
// channels; P, Q [H, r, N, 2] or [r, N, 2]; C [H, N, 2] or [N, 2]; dt [H] > 0. All f32 or all f64.
// The result is real: the real part of K, or twice it where a mode stands for a pair of conjugates.
// [H, L]; L >= 0, and H and N may be 0. Differentiable in all operands; gradients of complex ones
// are (dloss/dre, dloss/dim). What depends on a parameter alone is computed in double; the rest,
// O(H N L), in the operands' dtype, in tiles: memory is O(H L + N sqrt L) for a thread.

#ifndef RESIDUAL_OPS_SSM_KERNEL_SSM_KERNEL_H_
#define RESIDUAL_OPS_SSM_KERNEL_SSM_KERNEL_H_

#include <cstdint>

#include "tensor/core/tensor.h"

namespace residual {

enum class Discretization {
  kZoh,       // A_bar = e^(dt A),  B_bar = (A_bar - 1) / A B
  kBilinear,  // A_bar = (1 + dt/2 A) / (1 - dt/2 A),  B_bar = dt / (1 - dt/2 A) B
  // Diagonal State Spaces (Gupta, Gu, Berant 2022, eq. 5): A_bar = e^(dt A), and B_bar = (A_bar -
  // 1) / A B / (A_bar^L - 1), that is, e^(l dt A) under a softmax over l; reciprocals are x* / (x
  // x* + 1e-7). Where Re A > 0 the largest term is the last: numerator and denominator are divided
  // by it.
  kDssSoftmax
};

struct DiagonalKernelOptions {
  Discretization discretization = Discretization::kZoh;
  bool conjugate_pairs = true;
};

// S4D (Gu, Goel, Gupta, Re 2022, eq. 6): K_l = sum_n C_n B_bar_n A_bar_n^l, the product with a
// Vandermonde matrix. With l = W a + b that is sum_n (C_n B_bar_n A_bar_n^(W a)) (A_bar_n^b), a
// product of matrices of sqrt L rows each, whose entries are powers in double, rounded.
Tensor DiagonalSsmKernel(const Tensor& A, const Tensor& B, const Tensor& C, const Tensor& dt,
                         int64_t length, const DiagonalKernelOptions& options = {});

struct DplrKernelOptions {
  bool conjugate_pairs = true;
  // C is C (I - A_bar^L) already, the parameter that S4 learns. Otherwise that is computed, in
  // double, by L steps of a row vector (and L back for gradients): about as much work again.
  bool truncated_c = false;
};

// S4 (Gu, Goel, Re 2022, algorithm 1): A = diag(Lambda) - sum_i P_i Q_i^*, discretised by the
// bilinear transform. At the roots of unity w = e^(-2i theta), theta = pi j / L, with f(v) = sum_n
// v_n / (i 2/dt sin theta - Lambda_n cos theta) and C~ = C (I - A_bar^L),
//
//   K^(w) = e^(i theta) (f(C~ B) - cos theta f(C~ P) (I + cos theta f(Q* P))^-1 f(Q* B)),
//
// and K is the inverse transform: the paper's formula times numerator and denominator, without its
// pole at w = -1. sin and cos are computed in double and used with the bits that f32 loses: near a
// pole the difference of two large numbers is what counts. Re Lambda != 0 (at a resonance a mode
// without damping has no finite value).
Tensor DplrSsmKernel(const Tensor& Lambda, const Tensor& P, const Tensor& Q, const Tensor& B,
                     const Tensor& C, const Tensor& dt, int64_t length,
                     const DplrKernelOptions& options = {});

// C (I - A_bar^L) [H, N, 2], see DplrKernelOptions. Not differentiable: for initialisation.
Tensor TruncatedOutput(const Tensor& Lambda, const Tensor& P, const Tensor& Q, const Tensor& C,
                       const Tensor& dt, int64_t length, bool conjugate_pairs = true);

}  // namespace residual

#endif  // RESIDUAL_OPS_SSM_KERNEL_SSM_KERNEL_H_
