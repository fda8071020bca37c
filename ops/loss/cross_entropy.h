// Cross-entropy of logits and target classes, as torch.nn.functional.cross_entropy. With
// logp = log_softmax(logits), V = vocab and e = label_smoothing, a row's loss is
//
//   (1 - e) * -logp[target] + e / V * sum_j -logp[j]
//
// and its gradient softmax(logits) - (1 - e) * onehot(target) - e / V. A row whose target is
// ignore_index has loss 0 and gradient 0.
//
// Log-softmax, gather, reduction and (for a mean or a sum on a tape) the gradient are one pass over
// the logits; nothing of their size is stored but the gradient.

#ifndef RESIDUAL_OPS_LOSS_CROSS_ENTROPY_H_
#define RESIDUAL_OPS_LOSS_CROSS_ENTROPY_H_

#include <cstdint>

#include "tensor/core/tensor.h"

namespace residual {

enum class Reduction {
  kMean,  // over the rows that are not ignored; NaN (with gradient 0) if there is none, as PyTorch
  kSum,
  kNone  // a loss per row
};

struct CrossEntropyOptions {
  // Rows with this target count for nothing. It need not be a valid class.
  int64_t ignore_index = -100;
  // In [0, 1].
  double label_smoothing = 0;
  Reduction reduction = Reduction::kMean;
};

// logits: [..., vocab], vocab >= 1, float; targets: [...], i64 or i32, each in [0, vocab) or
// ignore_index (else a CHECK with its position: callers validate ids from outside). Returns [] or,
// for kNone, targets' shape; f64 for f64 logits, else f32 (a loss in bf16 would have two digits).
// Sums over rows are made in double, in a fixed order. Differentiable in the logits.
//
// A logit of -inf is a class of probability zero (loss +inf if it is the target); a row of only
// -inf, or with a NaN or +inf, gives NaN.
Tensor CrossEntropy(const Tensor& logits, const Tensor& targets,
                    const CrossEntropyOptions& options = {});

// log_softmax(logits)[..., targets]: what a model says of each token. logits [..., vocab],
// targets [...] in [0, vocab). Returns targets' shape, f64 for f64 logits, else f32.
// Differentiable in the logits. It is minus CrossEntropy without a reduction.
Tensor TokenLogProbs(const Tensor& logits, const Tensor& targets);

}  // namespace residual

#endif  // RESIDUAL_OPS_LOSS_CROSS_ENTROPY_H_
