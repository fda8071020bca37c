// What ops/layout's kernels are given. Private to the folder.

#ifndef RESIDUAL_OPS_LAYOUT_LAYOUT_KERNELS_H_
#define RESIDUAL_OPS_LAYOUT_LAYOUT_KERNELS_H_

#include <cstddef>
#include <cstdint>

namespace residual {
namespace layout_internal {

// to[k * to_stride + n] = from[n * from_stride + k] for k in [0, k_size), n in [0, n_size);
// strides in elements of `element` bytes: 1, 2, 4 or 8.
struct TransposeArgs {
  const void* from;
  void* to;
  int64_t k_size, n_size, from_stride, to_stride;
  size_t element;
};
void TransposeBlock(const TransposeArgs& args);

// sum[o, b, i] = sum of x[o, j, i] over the j of block b, [b * kSumRows, (b + 1) * kSumRows); x is
// [outer, n, inner], sum is [outer, SumBlocks(n), inner]. A piece is what one o and b give for up
// to kSumColumns columns i; the functions do pieces [begin, end) of outer * SumBlocks(n) *
// SumColumnBlocks(inner).
inline constexpr int64_t kSumRows = 4096, kSumColumns = 64;
struct SumArgs {
  const void* x;
  void* sum;
  int64_t n, inner;
};
inline int64_t SumBlocks(int64_t n) { return (n + kSumRows - 1) / kSumRows; }
inline int64_t SumColumnBlocks(int64_t inner) { return (inner + kSumColumns - 1) / kSumColumns; }
void SumF32(const SumArgs& args, int64_t begin, int64_t end);
void SumF64(const SumArgs& args, int64_t begin, int64_t end);

}  // namespace layout_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_LAYOUT_LAYOUT_KERNELS_H_
