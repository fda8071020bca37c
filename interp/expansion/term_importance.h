// How much of what a model knows is in paths of each order (Elhage et al. 2021, "Term Importance
// Analysis").
//
// The paper's algorithm: run the model and keep its patterns. Run it again with these patterns,
// take what each layer of heads would add, and put zeros in its place: the loss is that of the
// direct path. In run n put in place what was taken in run n - 1: all paths of fewer than n heads
// count, and none other. The difference of two losses is what the paths of one order are worth.
// With one layer's heads put in place alone, each layer can be weighed.

#ifndef RESIDUAL_INTERP_EXPANSION_TERM_IMPORTANCE_H_
#define RESIDUAL_INTERP_EXPANSION_TERM_IMPORTANCE_H_

#include <vector>

#include "absl/status/statusor.h"
#include "models/stream/residual_model.h"
#include "tensor/core/tensor.h"

namespace residual {

struct TermImportance {
  double uniform_loss = 0;  // log d_vocab: of a model that knows nothing
  // Mean loss in nats with the paths of up to 0, 1, ..., n_layers heads. The last is the model's.
  std::vector<double> up_to_order;
  // With the direct path and paths of one head of this layer.
  std::vector<double> with_layer;

  // What single heads, and what virtual heads take off the loss.
  double direct() const { return uniform_loss - up_to_order[0]; }
  double single_heads() const { return up_to_order[0] - up_to_order[1]; }
  double virtual_heads() const { return up_to_order[1] - up_to_order.back(); }
  // Of two layers: one layer's single heads after the direct path, and after the other layer too.
  double layer_alone(int layer) const { return up_to_order[0] - with_layer[layer]; }
  double layer_last(int layer) const { return with_layer[1 - layer] - up_to_order[1]; }
};

// targets: as of a TrainingBatch, positions of kIgnoreTarget do not count. At least one layer.
// Unimplemented for a model that is no sum over paths (CheckPathsAddUp), InvalidArgument for tokens
// that do not fit it.
absl::StatusOr<TermImportance> WeighTerms(const ResidualModel& model, const Tensor& tokens,
                                          const Tensor& targets);

}  // namespace residual

#endif  // RESIDUAL_INTERP_EXPANSION_TERM_IMPORTANCE_H_
