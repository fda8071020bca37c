// The logits of an attention-only model as a sum over paths through its heads (Elhage et al. 2021,
// "The Path Expansion Trick").
//
// With its attention patterns A^h held as they were, a model without norms, biases and MLPs is
// linear in its embedding, and the product over its layers multiplies out. With row vectors, of two
// layers:
//
//   logits = X W_E W_U                                       the direct path
//          + sum_h A^h X W_E OV^h W_U                         one head of either layer
//          + sum_h1,h2 A^h2 A^h1 X W_E OV^h1 OV^h2 W_U        virtual heads: one of each
//
// which is the paper's sum of A^h (x) W_U W_OV^h W_E. The number of heads on a path is its order.

#ifndef RESIDUAL_INTERP_EXPANSION_PATH_EXPANSION_H_
#define RESIDUAL_INTERP_EXPANSION_PATH_EXPANSION_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "interp/heads/head_scores.h"
#include "models/stream/residual_model.h"
#include "tensor/core/tensor.h"

namespace residual {

// Unimplemented, with what was found and where, for a model that is no such sum: a norm, a bias of
// attention or of the unembedding, a mixer other than attention, positions on the stream.
absl::Status CheckPathsAddUp(const ResidualModel& model);

struct PathTerm {
  std::vector<HeadIndex> heads;  // in the order of the layers; none: the direct path
  Tensor logits;                 // f64 [batch, pos, d_vocab]
};

struct PathExpansion {
  std::vector<PathTerm> terms;  // by order, then by heads
  Tensor logits;                // of the model itself, [batch, pos, d_vocab]
  double error = 0;             // max |sum of terms - logits| / max |logits|
};

// From the weights and the patterns of one run, in float64. InvalidArgument for tokens that do not
// fit the model, or if there are more than `most_paths`; else as CheckPathsAddUp.
absl::StatusOr<PathExpansion> ExpandPaths(const ResidualModel& model, const Tensor& tokens,
                                          int64_t most_paths = 4096);

// "direct", "L0H3", "L0H3 > L1H2".
std::string PathName(const PathTerm& term);

}  // namespace residual

#endif  // RESIDUAL_INTERP_EXPANSION_PATH_EXPANSION_H_
