// One channel of a diagonal plus low-rank system, discretised by the bilinear transform, in double.
// For this folder and ops/ssm_recurrence only.
//
// With D = 1 / (2/dt - Lambda) and S = I + Q* D P, Woodbury's formula makes of
// A = diag(Lambda) - P Q* again a diagonal plus low-rank matrix:
//   A_bar = 4/dt (2/dt - A)^-1 - I = diag(4/dt D - 1) - (4/dt D P S^-1) (Q* D)
//   B_bar = 2 (2/dt - A)^-1 B = 2 (D B - D P S^-1 (Q* D B))
// Where a mode stands for a pair of conjugates, a sum over modes is twice its real part.

#ifndef RESIDUAL_OPS_SSM_KERNEL_DPLR_DISCRETE_H_
#define RESIDUAL_OPS_SSM_KERNEL_DPLR_DISCRETE_H_

#include <complex>
#include <cstdint>
#include <vector>

#include "ops/ssm_kernel/channel_params.h"

namespace residual {
namespace ssm_internal {

using ComplexList = std::vector<Complex>;

constexpr int64_t kMaxRank = 16;

// Solves the rank x rank system a x = b in place, with pivoting; the columns of b are `columns`
// right sides. a is destroyed.
void SolveSmall(int64_t rank, Complex* a, Complex* b, int64_t columns);

struct DplrChannel {
  int64_t modes = 0, rank = 0;
  bool pairs = true;
  double dt = 1;
  ComplexList Lambda;  // [modes]
  ComplexList P, Q;    // [rank, modes]
  ComplexList B, C;    // [modes]
};

// The operands of DplrSsmKernel, whose shapes are CHECKed.
struct DplrOperands {
  DplrOperands(const char* op, const Tensor& Lambda, const Tensor& P, const Tensor& Q,
               const Tensor& B, const Tensor& C, const Tensor& dt, bool pairs);
  DplrChannel Channel(int64_t h) const;

  std::vector<double> steps;  // [channels]
  int64_t channels;
  bool pairs;
  ChannelParam Lambda, P, Q, B, C;
  Tensor dt;
  int64_t modes, rank;
};

struct DplrDiscrete {
  int64_t modes, rank;
  bool pairs;
  ComplexList diagonal;     // [modes]
  ComplexList left, right;  // [rank, modes]: A_bar = diag - sum_i left_i right_i^T
};
DplrDiscrete Discretize(const DplrChannel& channel);
// B_bar [modes].
ComplexList DiscreteInput(const DplrChannel& channel, const DplrDiscrete& discrete);

// c A_bar^steps, for a row vector.
ComplexList RowTimesPower(const DplrDiscrete& a, ComplexList c, int64_t steps);

// Gradients of a channel's operands; those of C and dt are added to what is there.
struct DplrGradients {
  explicit DplrGradients(const DplrChannel& channel)
      : Lambda(channel.modes),
        P(channel.P.size()),
        Q(channel.Q.size()),
        B(channel.modes),
        C(channel.modes) {}
  ComplexList Lambda, P, Q, B, C;
  double dt = 0;
};

// Adds to `to` what the gradient g of C A_bar^steps gives for C, Lambda, P, Q and dt. Keeps about
// 2 sqrt(steps) of the rows C A_bar^k at a time.
void BackThroughPower(const DplrChannel& channel, const ComplexList& g, int64_t steps,
                      DplrGradients& to);

}  // namespace ssm_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_SSM_KERNEL_DPLR_DISCRETE_H_
