// The loss of a model's predictions, without the logits of a whole batch in memory.

#ifndef RESIDUAL_MODELS_STREAM_TOKEN_LOSS_H_
#define RESIDUAL_MODELS_STREAM_TOKEN_LOSS_H_

#include "models/stream/residual_model.h"
#include "ops/loss/cross_entropy.h"
#include "tensor/core/tensor.h"

namespace residual {

// CrossEntropy(model.Forward(input, state, nullptr, training), targets, options), with the mean or
// the sum of all rows, the state a fork of `past` if there is one. targets: [batch, pos].
//
// Where there are many logits they are made for some rows at a time; on a tape so are their
// gradients, right then, so that neither is ever there as a whole (Hsu et al. 2024, Liger Kernel,
// FusedLinearCrossEntropy). Sums over the parts are made in order.
Tensor TokenLoss(const ResidualModel& model, const ModelInput& input, const Tensor& targets,
                 const CrossEntropyOptions& options = {}, const MixerContext* training = nullptr,
                 const ModelState* past = nullptr);

// What TokenLoss makes of the last stream: logits = x weight^T (transposed) or x weight, + bias.
struct UnembedLossArgs {
  Tensor x;        // [rows, d_model]
  Tensor weight;   // [d_model, d_vocab], or [d_vocab, d_model] if transposed
  Tensor bias;     // [d_vocab] or undefined
  Tensor targets;  // [rows]
  bool transposed = false;
  Precision precision = Precision::kFull;
  // So many at a time at most, but a row at least. 100 MB of f32: smaller parts add to the
  // weight's gradient more often, larger ones save nothing more.
  int64_t logits_at_once = int64_t{25} << 20;
};
Tensor UnembedLoss(const UnembedLossArgs& args, const CrossEntropyOptions& options = {});

}  // namespace residual

#endif  // RESIDUAL_MODELS_STREAM_TOKEN_LOSS_H_
