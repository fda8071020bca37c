// Copies of blocks between arrays that lie differently in memory. Private to the folder.

#ifndef RESIDUAL_OPS_LAYOUT_COPY_H_
#define RESIDUAL_OPS_LAYOUT_COPY_H_

#include <cstddef>
#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "tensor/core/shape.h"

namespace residual {
namespace layout_internal {

// `rows` pieces of `width` bytes, `from_pitch` and `to_pitch` bytes apart.
void CopyRows(const void* from, int64_t from_pitch, void* to, int64_t to_pitch, int64_t width,
              int64_t rows);
// The same pieces of zeros.
void ZeroRows(void* to, int64_t to_pitch, int64_t width, int64_t rows);

// One axis of a result: its size, and how far apart its neighbours are in the source, in elements
// (0: the same element again).
struct SourceAxis {
  int64_t size, stride;
};
using SourceAxes = absl::InlinedVector<SourceAxis, Shape::kMaxRank>;

// The same result with as few axes as possible: without those of size 1, neighbours joined where
// they are one run in the source. Empty: one element.
SourceAxes Merged(const SourceAxes& axes);

// Writes the result, row-major, to `to`. `axes` are Merged, none has size 0; either one has stride
// 1, or all strides are 0.
void CopyStrided(const void* from, const SourceAxes& axes, size_t element, void* to);

}  // namespace layout_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_LAYOUT_COPY_H_
