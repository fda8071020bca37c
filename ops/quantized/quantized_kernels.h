// Private: the kernels of ops/quantized, on whole groups.

#ifndef RESIDUAL_OPS_QUANTIZED_QUANTIZED_KERNELS_H_
#define RESIDUAL_OPS_QUANTIZED_QUANTIZED_KERNELS_H_

#include <cstdint>

namespace residual {
namespace quantized_internal {

constexpr int64_t kGroup = 64;

// Rows of `groups` groups each.
struct Rows {
  const int8_t* values;
  const float* scales;
  int64_t groups, count;
};

// y[r] = (bias or 0) + row r . x, for an x of whole groups.
void Dots(const Rows& rows, const float* x, const float* bias, float* y);

// Row after row in f32, `columns` of each.
void Widen(const Rows& rows, int64_t columns, float* to);

// A row of w, `columns` long, to whole groups. Returns whether all of it is finite.
bool QuantizeRow(const float* w, int64_t columns, int8_t* values, float* scales);

// Columns of w to one group each: w is [depth, count] for a depth of kGroup at most and a count of
// kTile at most, its rows `w_step` apart. Values are `value_step` apart from group to group, scales
// `scale_step`. The bits are those of QuantizeRow.
constexpr int64_t kTile = 64;
struct Columns {
  const float* w;
  int64_t w_step, depth, count;
  int8_t* values;
  float* scales;
  int64_t value_step, scale_step;
};
bool QuantizeColumns(const Columns& columns);

}  // namespace quantized_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_QUANTIZED_QUANTIZED_KERNELS_H_
