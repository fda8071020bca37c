// What ops/embedding's kernels are given. Private to the folder.

#ifndef RESIDUAL_OPS_EMBEDDING_EMBEDDING_KERNELS_H_
#define RESIDUAL_OPS_EMBEDDING_EMBEDDING_KERNELS_H_

#include <cstdint>

namespace residual {
namespace embedding_internal {

// sum[c] = updates[positions[0]][c] + updates[positions[1]][c] + ..., added in that order, for the
// columns c in [begin, end); rows of `updates` are d elements. count >= 1.
struct SumRowsArgs {
  const void* updates;
  const int64_t* positions;
  int64_t count, d, begin, end;
  void* sum;
};
void SumRowsF32(const SumRowsArgs& args);
void SumRowsF64(const SumRowsArgs& args);
void SumRowsBF16(const SumRowsArgs& args);  // in f32, rounded once

}  // namespace embedding_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_EMBEDDING_EMBEDDING_KERNELS_H_
