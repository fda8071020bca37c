// What ops/loss's kernels are given. Private to the folder.

#ifndef RESIDUAL_OPS_LOSS_CROSS_ENTROPY_KERNELS_H_
#define RESIDUAL_OPS_LOSS_CROSS_ENTROPY_KERNELS_H_

#include <cstdint>

#include "tensor/core/dtype.h"

namespace residual {
namespace loss_internal {

// What a row's loss and gradient need of its softmax: softmax_j = exp(x_j - max) / sum. A row that
// has none (NaN, +inf, or only -inf) has a NaN here.
struct RowStatistics {
  double max, sum;
};

struct CrossEntropyArgs {
  const void* logits;      // [rows, vocab]
  const int64_t* targets;  // [rows], in [0, vocab) or ignore_index
  int64_t vocab, ignore_index;
  double smoothing;
  RowStatistics* statistics;  // [rows]
};

// Statistics and losses[r] for the rows [begin, end); 0 for ignored rows.
void LossesF32(const CrossEntropyArgs& args, double* losses, int64_t begin, int64_t end);
void LossesBF16(const CrossEntropyArgs& args, double* losses, int64_t begin, int64_t end);
void LossesF64(const CrossEntropyArgs& args, double* losses, int64_t begin, int64_t end);

// scale[0] (per_row: scale[r]) times the gradient of each row's loss with respect to its logits, of
// the logits' shape and type. `stream`: written past the caches.
struct GradientArgs {
  const double* scale;
  bool per_row, stream;
  void* gradient;
};
void GradientF32(const CrossEntropyArgs& args, const GradientArgs& to, int64_t begin, int64_t end);
void GradientBF16(const CrossEntropyArgs& args, const GradientArgs& to, int64_t begin, int64_t end);
void GradientF64(const CrossEntropyArgs& args, const GradientArgs& to, int64_t begin, int64_t end);

}  // namespace loss_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_LOSS_CROSS_ENTROPY_KERNELS_H_
