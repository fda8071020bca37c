// What the kernel of hidden attention is given. Private to the folder.

#ifndef RESIDUAL_OPS_SCAN_HIDDEN_ATTENTION_KERNELS_H_
#define RESIDUAL_OPS_SCAN_HIDDEN_ATTENTION_KERNELS_H_

#include <cstdint>

#include "absl/types/span.h"
#include "ops/scan/selective_scan_kernels.h"

namespace residual {
namespace scan_internal {

// Rows of M that one task makes: each makes anew the factors of all positions before them.
constexpr int64_t kRowsOfTask = 16;

enum class AttentionOutput { kChannels, kSum, kAbsoluteSum };

struct AttentionArgs {
  ScanArgs scan;                       // without u, D, z and states
  absl::Span<const int64_t> channels;  // those wanted, in this order
  AttentionOutput output;
  float* to;  // [batch, channels, length, length], or [batch, length, length]
};

// Rows [begin, end), at most kRowsOfTask, of one row of the batch.
void AttentionRows(const AttentionArgs& args, int64_t row, int64_t begin, int64_t end);

}  // namespace scan_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_SCAN_HIDDEN_ATTENTION_KERNELS_H_
