// The attention that a selective scan amounts to (Ali, Zimerman and Wolf 2024, "The hidden
// attention of Mamba models", eq. 11): with D and the gate apart, a channel's y is a matrix times
// its u,
//
//   y_t = sum over s <= t of M[t, s] u_s
//   M[t, s] = sum over the state of C_t exp(A (delta'_{s+1} + .. + delta'_t)) delta'_s B_s
//
// where delta' is what SelectiveScan makes of delta. Across the begin of a packed sequence M is 0.
// What came in with an initial state is no position and has no column.

#ifndef RESIDUAL_OPS_SCAN_HIDDEN_ATTENTION_H_
#define RESIDUAL_OPS_SCAN_HIDDEN_ATTENTION_H_

#include <cstdint>

#include "absl/types/span.h"
#include "ops/scan/selective_scan.h"
#include "tensor/core/tensor.h"

namespace residual {

// M of the given channels (any order, each in [0, dim)): f32 [batch, channels, pos, pos]. Of the
// inputs u counts for its shape alone; D, z and initial_state do not count. Not differentiable.
// Beside the result it takes pos * state vectors of memory for each thread.
Tensor HiddenAttention(const SelectiveScanInputs& inputs, absl::Span<const int64_t> channels);

// Of all channels: the mean of M, or of |M|. f32 [batch, pos, pos].
enum class ChannelMean { kSigned, kAbsolute };
Tensor HiddenAttentionMean(const SelectiveScanInputs& inputs, ChannelMean mean);

}  // namespace residual

#endif  // RESIDUAL_OPS_SCAN_HIDDEN_ATTENTION_H_
