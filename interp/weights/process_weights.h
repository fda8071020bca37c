// The weights as the field likes to read them: rewritten so that the model computes the same
// log-probabilities and every matrix speaks of the stream alone (TransformerLens's
// process_weights_). In float64, rounded once.
//
//   fold norms              a norm's gain w and bias b move into the matrices that read it:
//                           W' = w * W, b' = b_in + b W; with layer norm what they read has mean
//                           zero, so W' is centred over d_model. w becomes 1 and b 0.
//   centre writing weights  what is added to the stream loses its mean over d_model, which layer
//                           norm takes away anyhow: W_E, W_pos, W_O, b_O, W_out, b_out
//   centre unembedding      W_U and b_U lose their mean over the vocabulary, which softmax ignores
//   fold value biases       b_O' = b_O + sum_h b_V[h] W_O[h]; b_V becomes 0 (patterns sum to 1)
//
// A tied output becomes one of its own, with a bias.

#ifndef RESIDUAL_INTERP_WEIGHTS_PROCESS_WEIGHTS_H_
#define RESIDUAL_INTERP_WEIGHTS_PROCESS_WEIGHTS_H_

#include "absl/status/status.h"
#include "models/stream/residual_model.h"

namespace residual {

struct ProcessOptions {
  bool fold_norms = true;
  // Left out unless every norm is a layer norm before its mixer.
  bool center_writing_weights = true;
  bool center_unembed = true;
  bool fold_value_biases = true;
};

// Unimplemented, and the model unchanged, for a model whose norms cannot be folded: norms after the
// mixers, positions added behind a norm (shortformer), mixers that are neither "attn" nor "mlp", a
// norm's bias where a matrix that reads it has none.
absl::Status ProcessWeights(ResidualModel& model, const ProcessOptions& options = {});

}  // namespace residual

#endif  // RESIDUAL_INTERP_WEIGHTS_PROCESS_WEIGHTS_H_
