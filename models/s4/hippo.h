// HiPPO matrices: x' = A x + B u whose state holds the coefficients of the signal so far in an
// orthonormal basis (Gu et al. 2020; Gu et al. 2022, "How to train your HiPPO"). float64.
//
//   s        how long ago, in units in which the matrices are written
//   phi_n(s) what x_n multiplies: u(t - s) ~ sum_n x_n phi_n(s)
//   L_n      sqrt(2n+1) P_n, P_n the Legendre polynomials
//   T_n      the Chebyshev polynomials, times sqrt 2 for n >= 1

#ifndef RESIDUAL_MODELS_S4_HIPPO_H_
#define RESIDUAL_MODELS_S4_HIPPO_H_

#include <cstdint>
#include <string>
#include <vector>

#include "Eigen/Core"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace residual {

enum class HippoMeasure {
  // All of the past, exponentially warped: phi_n(s) = L_n(2 e^-s - 1). With the rates divided by
  // the time, x' = (A x + B u) / t, all of the past evenly: phi_n = L_n(2 (t - s) / t - 1).
  kLegS,
  // The last 1, evenly: phi_n(s) = L_n(1 - 2s) for s in [0, 1]. (state-spaces/s4 has both matrices
  // halved: a window of 2.)
  kLegT,
  // The last 2, evenly, as a Fourier series: phi_0 = 1, phi_2k = sqrt 2 cos(pi k s), phi_2k+1 =
  // sqrt 2 sin(pi k s); phi_1 = 0.
  kFourier,
  // The last 1: x_n = integral of u(t - s) T_n(1 - 2s), hence, tilted by the Chebyshev weight
  // (2020,
  // section C), phi_n(s) = T_n(y) 2 / (pi sqrt(1 - y^2)), y = 1 - 2s: the best approximation under
  // the weight sqrt(1 - y^2). What leaves the window, u(t - 1), is taken from the polynomial that
  // has these x_n.
  kChebyshev,
  // A control: entries of A from N(0, 1/N), less 3/2 on the diagonal, so that poles have real parts
  // below -1/2 or so; of B from N(0, 1). No basis of its own (see HippoMemory).
  kRandom
};

// "legs", "legt", "fourier", "chebyshev", "random"; InvalidArgument names the known ones.
absl::StatusOr<HippoMeasure> ParseHippoMeasure(absl::string_view name);
const char* Name(HippoMeasure measure);

struct Hippo {
  Eigen::MatrixXd A;  // [N, N]
  Eigen::VectorXd B;  // [N]
};
// n >= 1 (CHECKed); the seed is for kRandom only.
Hippo MakeHippo(HippoMeasure measure, int64_t n, uint64_t seed = 0);

// How long the window is in the units of the matrices: 2 for kFourier, else 1 (the time in which
// kLegS forgets to 1/e).
double HippoWindow(HippoMeasure measure);

// phi(s) [N] for the time-invariant system; zero outside of the window. CHECKs that there is a
// basis, that is, not kRandom.
Eigen::VectorXd HippoBasis(HippoMeasure measure, int64_t n, double s);

// A = V (diag(Lambda) - P P*) V*, normal plus low rank (Gu et al. 2021, theorem 1), B = V B_real.
struct Nplr {
  Eigen::VectorXcd Lambda;  // [N]
  Eigen::MatrixXcd P;       // [N, rank]: 1 for kLegS and kFourier, 2 for kLegT; in the basis of V
  Eigen::VectorXcd B;       // [N], V* B
  Eigen::MatrixXcd V;       // [N, N], unitary
};
// By rising imaginary part of Lambda. Its real part is -1/2 for kLegS and 0 for the others, of
// which kFourier has Lambda = 0 twice: no finite Cauchy kernel (ops/ssm_kernel) for it. CHECKs that
// the measure is one of these three.
Nplr MakeNplr(HippoMeasure measure, int64_t n);
// Of each pair of conjugates the one with positive imaginary part: N/2 rows of Lambda, P, B and
// columns of V, for twice the real part of what they give. CHECKs that n is even.
Nplr MakeNplrPairs(HippoMeasure measure, int64_t n);

// Starting points of diagonal systems, of N/2 conjugate pairs (Gu et al. 2022, "On the
// parameterization and initialization of diagonal state space models", section 4).
enum class DiagonalInit {
  kLin,    // -1/2 + i pi n
  kInv,    // -1/2 + i N/pi (N / (2n+1) - 1)
  kQuad,   // -1/2 + i (1 + 2n)^2 / pi
  kReal,   // -(n + 1)
  kLegS,   // the eigenvalues of the normal part of kLegS, with its B
  kRandom  // a control: -1/2 + i pi N/2 times a uniform random number
};
// "lin", "inv", "quad", "real", "legs", "random"; InvalidArgument names the known ones.
absl::StatusOr<DiagonalInit> ParseDiagonalInit(absl::string_view name);

struct DiagonalSystem {
  Eigen::VectorXcd A;  // [N/2]
  Eigen::VectorXcd B;  // [N/2]; ones, but for kLegS
};
// n even (CHECKed).
DiagonalSystem MakeDiagonal(DiagonalInit init, int64_t n, uint64_t seed = 0);

}  // namespace residual

#endif  // RESIDUAL_MODELS_S4_HIPPO_H_
