// How much later heads read of what earlier heads write (Elhage et al. 2021, "composition"):
//
//   Q  ||OV_1 QK_2||_F / (||OV_1||_F ||QK_2||_F)      by the queries
//   K  ||OV_1 QK_2^T||_F / (||OV_1||_F ||QK_2||_F)    by the keys
//   V  ||OV_1 OV_2||_F / (||OV_1||_F ||OV_2||_F)      by the values
//
// with row vectors, so that the first factor acts first. (The paper's first figure had the norms of
// the products the other way round, see its erratum; FactoredMatrix has the test.)
//
// Chance. If the later circuit had its singular values and random directions instead (a Haar
// rotation between the two), the expected square of a score would be 1 / d_model, whatever the
// singular values: those only set how far the square strays,
//   Var = 2 |X|^2 |Y|^2 / ((d_model - 1) (d_model + 2))
// where X = OV_1^T OV_1 / ||OV_1||^2 and Y = B B^T / ||B||^2 of the later B, each less
// I / d_model: a traceless symmetric matrix turned at random is a random vector of an irreducible
// representation of that dimension.

#ifndef RESIDUAL_INTERP_CIRCUITS_COMPOSITION_H_
#define RESIDUAL_INTERP_CIRCUITS_COMPOSITION_H_

#include <vector>

#include "interp/circuits/head_circuits.h"
#include "interp/heads/head_scores.h"

namespace residual {

enum class CompositionKind { kQ, kK, kV };

// [l1][h1][l2][h2], zero unless l1 < l2.
using CompositionTable = std::vector<std::vector<HeadTable>>;

struct CompositionScores {
  CompositionTable score;
  // (score^2 - 1 / d_model) / sqrt(Var): how many standard deviations the square lies above what
  // heads of the same singular values have by chance. Zero unless l1 < l2, and where a circuit is
  // zero.
  CompositionTable deviations;
};

// Products are computed in f64 for a model of f64, else in f32, norms in f64.
CompositionScores ComposeHeads(const HeadCircuits& circuits, CompositionKind kind);
// The scores alone.
CompositionTable Compositions(const HeadCircuits& circuits, CompositionKind kind);

// 1 / sqrt(d_model): the root of the mean square of the scores of heads that know nothing of each
// other.
double CompositionByChance(int64_t d_model);

}  // namespace residual

#endif  // RESIDUAL_INTERP_CIRCUITS_COMPOSITION_H_
