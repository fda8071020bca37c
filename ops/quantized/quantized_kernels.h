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

}  // namespace quantized_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_QUANTIZED_QUANTIZED_KERNELS_H_
