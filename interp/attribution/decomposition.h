// The stream as the sum of what was put on it, and what every part does to a logit (direct logit
// attribution).
//
// By hook points and not by architecture: a part is the embedding, the positions, or what a mixer
// adds ("blocks.L.hook_attn_out", "blocks.L.hook_mlp_out", ...), whatever the mixer is.

#ifndef RESIDUAL_INTERP_ATTRIBUTION_DECOMPOSITION_H_
#define RESIDUAL_INTERP_ATTRIBUTION_DECOMPOSITION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/stream/residual_model.h"
#include "tensor/core/tensor.h"

namespace residual {

// Tensors [batch, pos, d_model] with names.
struct LabelledStreams {
  std::vector<std::string> labels;
  std::vector<Tensor> values;

  // [n, batch, pos, d_model], f32.
  Tensor Stack() const;
};

struct DecomposeOptions {
  bool heads = false;    // what every head adds, [batch, pos, d_model] each
  bool neurons = false;  // activations of MLPs
};

// One run, taken apart.
struct Decomposition {
  // "embed", "pos_embed", "0_attn_out", "0_mlp_out", ...: they add up to the last stream.
  LabelledStreams parts;
  // The stream itself: "0_pre", "0_mid", "1_pre", ..., "final_post".
  LabelledStreams accumulated;
  // options.heads: "L0H0", ...; with the output bias they add up to the layer's attn_out.
  LabelledStreams heads;
  // options.neurons: "0_mlp" and the like, [batch, pos, d_mlp] (blocks.L.mlp.hook_post).
  LabelledStreams neurons;
  Tensor scale;   // ln_final.hook_scale, [batch, pos, 1]; undefined without a final norm
  Tensor logits;  // [batch, pos, d_vocab]
  // max |sum of parts - last stream| / max |last stream|.
  double error = 0;
};

// Runs the model. Unimplemented for models whose blocks put a norm behind the sum (post-norm): what
// is added there does not stay as it was. Internal if the parts do not add up to the last stream
// within 1e-5 of its largest entry; else what Run gives.
absl::StatusOr<Decomposition> DecomposeStream(const ResidualModel& model, const ModelInput& input,
                                              const DecomposeOptions& options = {});

}  // namespace residual

#endif  // RESIDUAL_INTERP_ATTRIBUTION_DECOMPOSITION_H_
