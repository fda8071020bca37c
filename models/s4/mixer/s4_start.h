// What state spaces start from: the parameters of one channel, and how each tensor is filled.

#ifndef RESIDUAL_MODELS_S4_MIXER_S4_START_H_
#define RESIDUAL_MODELS_S4_MIXER_S4_START_H_

#include <cstdint>
#include <string>
#include <vector>

#include "Eigen/Core"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "models/nn/module.h"

namespace residual {

enum class S4Kind { kS4, kS4D, kDss };

// "legs", "legt", "fourier": HiPPO; S4 has it whole, S4D and DSS (legs alone) its normal part.
// "lin", "inv", "quad", "real": of S4D and DSS, see DiagonalInit.
// "random": the control. A random matrix in the place of HiPPO's, of the same kind: A = G - 3/2 for
// N/2 complex states (their conjugates are the other N/2), entries of G from CN(0, 2/N), those of B
// from CN(0, 1), in the basis of A's eigenvectors; of S4 less P P* with P from CN(0, 1). One for
// each layer.
// "random_lin": the rates of "lin" with frequencies uniform in [0, pi N/2).
enum class S4Init { kLegS, kLegT, kFourier, kLin, kInv, kQuad, kReal, kRandom, kRandomLin };

// InvalidArgument names the known ones.
absl::StatusOr<S4Init> ParseS4Init(absl::string_view name);
const char* S4InitName(S4Init init);
std::vector<std::string> S4InitNames();
// Whether a system of this kind can start so.
bool StartsFrom(S4Kind kind, S4Init init);

// One channel of N/2 conjugate pairs, or a layer of equal ones.
struct S4Start {
  Eigen::VectorXcd A;  // [N/2]: Lambda; its real part is at most -1e-4
  Eigen::MatrixXcd P;  // [N/2, rank]; rank 0 unless S4
  Eigen::VectorXcd B;  // [N/2]
};
// n even, and StartsFrom (CHECKed). `seed` and `layer` are of the random ones.
S4Start MakeS4Start(S4Kind kind, S4Init init, int64_t n, uint64_t seed, int layer);
// The rank of the start's P.
int64_t S4Rank(S4Kind kind, S4Init init);

// Steps of a layer's channels: exp(U(log low, log high)), a pure function of the seed and the
// layer, so that what depends on them can be filled by itself.
std::vector<double> S4Steps(int64_t channels, double low, double high, uint64_t seed, int layer);

// C from CN(0, 1), [channels, N/2, 2].
Tensor S4Output(int64_t channels, int64_t modes, uint64_t seed, uint64_t stream);

}  // namespace residual

#endif  // RESIDUAL_MODELS_S4_MIXER_S4_START_H_
