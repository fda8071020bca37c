// An induction circuit written by hand, so that what is measured of it is known beforehand.
//
// Two layers of two heads, no norm. The stream is three subspaces side by side: the token (one-hot,
// V wide), the position (one-hot, T wide) and what was read from the token before (V wide).
//   L0H0  previous token: attends from p to p - 1 by position and copies the token there into the
//         third subspace (position 0 can only attend to itself)
//   L1H0  induction: its query is the token, its key the third subspace (less one at position 0,
//         which had to read itself), so it attends to the positions after earlier occurrences of
//         the token, and adds the token it finds to the stream, from which the unembedding reads
//         the logits
//   L0H1, L1H1  attend to everything alike and move nothing
// All weights are zero or one in size, but for the sharpness in W_Q and the gain of L1H0's output.

#ifndef RESIDUAL_INTERP_TESTING_PLANTED_CIRCUIT_H_
#define RESIDUAL_INTERP_TESTING_PLANTED_CIRCUIT_H_

#include <cstdint>
#include <memory>

#include "models/stream/residual_model.h"

namespace residual {

struct PlantedOptions {
  int64_t d_vocab = 20, n_ctx = 16;
  double sharpness = 40;       // score of the attended key, above those of the others (0)
  double gain = 30;            // of the logit that the induction head raises
  bool previous_token = true;  // false: L0H0 moves nothing
};

// float64; d_model is 2 d_vocab + n_ctx, d_head the larger of the two.
std::unique_ptr<ResidualModel> PlantedInductionModel(const PlantedOptions& options = {});

// The layer-0 half alone: a model that has a previous-token head and no induction.
std::unique_ptr<ResidualModel> PlantedPreviousTokenModel(const PlantedOptions& options = {});

// Puts a value, shaped as on disk, into the parameter of this name; CHECKs that there is one.
void SetParameter(ResidualModel& model, const std::string& name, const Tensor& value);

}  // namespace residual

#endif  // RESIDUAL_INTERP_TESTING_PLANTED_CIRCUIT_H_
