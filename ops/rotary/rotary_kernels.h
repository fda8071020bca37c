// What ops/rotary's kernels are given. Private to the folder.

#ifndef RESIDUAL_OPS_ROTARY_ROTARY_KERNELS_H_
#define RESIDUAL_OPS_ROTARY_ROTARY_KERNELS_H_

#include <cstdint>

namespace residual {
namespace rotary_internal {

// x and y: [rows, n_heads, d_head]. Row r uses row r % table_rows of cos and sin, which are
// [table_rows, rotary_dim / 2], f64 for f64 and f32 else.
struct Args {
  const void* x;
  void* y;
  const void* cos;
  const void* sin;
  int64_t table_rows, n_heads, d_head, rotary_dim;
  bool interleaved;
  bool inverse;  // turn by the negative angle
};

// Rows [begin, end).
void RotateF32(const Args& args, int64_t begin, int64_t end);
void RotateBF16(const Args& args, int64_t begin, int64_t end);

}  // namespace rotary_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_ROTARY_ROTARY_KERNELS_H_
