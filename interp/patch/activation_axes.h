// What the axes of an activation are, by the names its hook point declares, and parts of it.
//
// "[batch, pos, n_heads, d_head]" has positions on axis 1, heads on axis 2 and units (here: the
// features of a head) on axis 3; of "[batch, n_heads, query, key]" the queries are the positions
// and the keys an axis of their own. Nothing here knows what a head is: any axis "n_*" counts.

#ifndef RESIDUAL_INTERP_PATCH_ACTIVATION_AXES_H_
#define RESIDUAL_INTERP_PATCH_ACTIVATION_AXES_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tensor/core/tensor.h"

namespace residual {

enum class Axis { kPos, kHead, kKey, kUnit };

// Places of the axes; -1: there is none. The batch is axis 0.
struct ActivationAxes {
  int rank = 0;
  int pos = -1;   // "pos" or "query"
  int head = -1;  // "n_heads", "n_kv_heads", ...
  int key = -1;   // "key"
  int unit = -1;  // the last axis, if it is none of these: features, neurons, channels
  int Place(Axis axis) const;
};

// InvalidArgument if the first axis is not the batch: such an activation is the same for every
// input, and cannot be patched.
absl::StatusOr<ActivationAxes> AxesOf(const std::string& name, absl::string_view dims);

// A part of an activation at a hook point. kAll: the whole axis.
struct PatchCell {
  static constexpr int64_t kAll = -1;
  std::string point;  // as declared: "blocks.3.attn.hook_z"
  int64_t pos = kAll, head = kAll, key = kAll, unit = kAll;
  // The activation the part is taken from, as large as the whole point's; undefined: the clean
  // run's. Handles share it: one serves the cells of many heads.
  Tensor value = {};
  int64_t At(Axis axis) const;
  int64_t& At(Axis axis);
  // "blocks.3.attn.hook_z[pos 2, head 5]"
  std::string ToString() const;
};

// Calls run(first, second, bytes) for each stretch of the cell that lies contiguously in two
// tensors of its activation: elements' offsets in bytes. `rows` is how many rows of the batch, from
// row a0 and b0; a's positions begin at a_start, b's at b_start, and positions in [from, to) are
// visited. Other axes are as long in both, or the shorter of the two counts (keys).
struct CellView {
  const Shape* shape;
  int64_t row = 0;    // of the first example
  int64_t start = 0;  // position of its first position
};
void ForEachStretch(const PatchCell& cell, const ActivationAxes& axes, DType dtype,
                    const CellView& a, const CellView& b, int64_t rows, int64_t from, int64_t to,
                    const std::function<void(int64_t, int64_t, int64_t)>& run);

// The first position at which the cell differs, bit by bit, between two activations; `shape`'s
// number of positions if it nowhere does (0 and 1 for an activation without positions).
int64_t FirstDifference(const PatchCell& cell, const ActivationAxes& axes, const Tensor& a,
                        const Tensor& b);

}  // namespace residual

#endif  // RESIDUAL_INTERP_PATCH_ACTIVATION_AXES_H_
