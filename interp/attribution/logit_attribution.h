// Direct logit attribution: what every part of the stream adds to a logit, or to the difference of
// two.
//
// With the final norm's scale held at what it was, the difference is linear in the stream:
//   logit[a] - logit[w] = x . direction + bias
//   u = W_U[:, a] - W_U[:, w],   direction = C (gain * u) / scale,   bias = b_norm . u + b_U[a] -
//   b_U[w]
// where C takes the mean away if the norm does. Parts add up to the stream, so their attributions
// and the bias add up to the difference. (TransformerLens's logit_attrs leaves the gain out unless
// it is folded into W_U; then its parts do not add up. With processed weights the two agree.)

#ifndef RESIDUAL_INTERP_ATTRIBUTION_LOGIT_ATTRIBUTION_H_
#define RESIDUAL_INTERP_ATTRIBUTION_LOGIT_ATTRIBUTION_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "interp/attribution/decomposition.h"
#include "models/stream/residual_model.h"
#include "tensor/core/tensor.h"

namespace residual {

// For each row of a batch, which logit at which position.
struct LogitTargets {
  std::vector<int64_t> answer;    // [batch]
  std::vector<int64_t> wrong;     // [batch], or empty: the mean of all logits
  std::vector<int64_t> position;  // [batch], or empty: the last one of each row
};

struct LogitDirections {
  std::vector<int64_t> position;   // [batch]
  Tensor direction;                // f64 [batch, d_model]
  std::vector<double> bias;        // [batch]
  std::vector<double> difference;  // [batch]: logit[answer] - logit[wrong], as computed
};

// InvalidArgument for a number of ids other than the batch, or an id or position that is not there.
// mask: of the input, or undefined; the last position of a row is that of its last token.
absl::StatusOr<LogitDirections> DirectionsOf(const ResidualModel& model,
                                             const Decomposition& decomposition,
                                             const LogitTargets& targets, const Tensor& mask = {});

// [n, batch], f32: the attributions of streams [batch, pos, d_model].
Tensor Attribute(const LabelledStreams& streams, const LogitDirections& directions);

// [n_layers, batch, d_mlp], f32: those of every neuron, activation x (W_out[neuron] . direction),
// without making [.., d_mlp, d_model]. Of the layers in decomposition.neurons; undefined if there
// are none. FailedPrecondition if the layers differ in width.
absl::StatusOr<Tensor> AttributeNeurons(const ResidualModel& model,
                                        const Decomposition& decomposition,
                                        const LogitDirections& directions);

}  // namespace residual

#endif  // RESIDUAL_INTERP_ATTRIBUTION_LOGIT_ATTRIBUTION_H_
