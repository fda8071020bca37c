// Small transformers that tests of interp/ share, and a pair of prompts for them.

#ifndef RESIDUAL_INTERP_TESTING_SMALL_MODELS_H_
#define RESIDUAL_INTERP_TESTING_SMALL_MODELS_H_

#include <string>

#include "models/stream/residual_model.h"
#include "models/transformer/transformer.h"

namespace residual {

// d_model 12, d_vocab 31, n_ctx 16, d_mlp 17, 4 heads of 6; blocks of attention and an MLP, but for
//   "grouped_rotary"  2 heads of keys and values, rotations, RMS norms, a gated MLP
//   "parallel"        attention and MLP read the same stream
//   "attention_only"  no MLPs, no norms, positions as in shortformer
//   "post_norm"       norms behind the sum
//   "alibi"           scores fall with the distance
TransformerConfig SmallConfig(const std::string& kind, int layers);

// d_model 12, d_vocab 7, n_ctx 10, 3 heads of 4: attention alone, as in A Mathematical Framework,
// without norms or biases, positions added to queries and keys.
TransformerConfig AttentionOnlyConfig(int layers);

// d_model 8, d_vocab 11, n_ctx 8: one MLP and no attention.
TransformerConfig MlpOnlyConfig();

// float64, seed 5; all that begins as zeros or normal is normal with this spread, biases included,
// so that nothing is near nothing.
void Spread(ResidualModel& model, double spread);

// Two prompts of five tokens below 31, of which the corrupted ones share some.
const ModelInput& SmallPrompts(bool clean);

}  // namespace residual

#endif  // RESIDUAL_INTERP_TESTING_SMALL_MODELS_H_
