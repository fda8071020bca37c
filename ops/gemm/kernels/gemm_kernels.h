// Private: what a matrix product is made of. gemm.cc cuts a product into blocks and calls these
// kernels on them; there is one set of kernels for each dtype and processor.

#ifndef RESIDUAL_OPS_GEMM_KERNELS_GEMM_KERNELS_H_
#define RESIDUAL_OPS_GEMM_KERNELS_GEMM_KERNELS_H_

#include <algorithm>
#include <cstdint>

#include "tensor/core/dtype.h"

namespace residual {
namespace gemm_internal {

// `total` rows (or columns) in panels of `width`, the first `wide` of them one wider, the last one
// possibly narrower.
struct Panels {
  int64_t total, width, wide;

  int64_t Begin(int64_t p) const { return std::min(total, p * width + std::min(p, wide)); }
  int64_t Width(int64_t p) const { return Begin(p + 1) - Begin(p); }
  int64_t Count() const { return total == 0 ? 0 : (total - wide + width - 1) / width; }
};

// An operand seen as x by k, where x is what it has in common with the result: the rows of op(a),
// the columns of op(b). Steps are in elements; one of them is 1 (both, if k or x is).
struct Operand {
  const void* data;
  int64_t x_step, k_step;
  int64_t elements;
};

// Copies the panels [begin, end) of an operand, k in [k0, k0 + k), to where tiles read them: panel
// after panel, in each of them k after k, in each of those x after x. What lies between a panel's
// width and `stride` is arbitrary but finite.
struct PackArgs {
  Operand from;
  Panels panels;
  int64_t begin, end, k0, k;
  void* to;            // panel `begin`
  int64_t stride;      // from k to k, in packed elements
  int64_t panel_step;  // from panel to panel, in packed elements
};

// Asks for a cache line to be brought to the second cache. Into the first, prefetches wait for each
// other: with 24 weights [768, 3072] from memory, one thread read 22 GB/s with no prefetch, 18 with
// those to the first cache and 26 with these; two threads 26, 29 and 43.
// (Where it is not inlined, g++ takes the call for one without effect and drops it.)
__attribute__((always_inline)) inline void PrefetchToSecond(const void* p) {
  __builtin_prefetch(p, 0, 2);
}

// How many k ahead a tile brings its panels to the first cache. Where rows of the result lie a
// power of two apart, they push parts of the panels out of the caches: with this, and c fetched to
// the second cache only, an f32 product of 2048 went from 85 to 91 % of the peak, of 1024 from 91
// to 93. 8 ahead: 1 to 2 % less; only b: 5 % less; parts of k of 256 or 384 instead of 512: 2 to 4
// % less.
constexpr int64_t kPanelAhead = 16;

// c[r, j] = (add ? c[r, j] : bias) + sum over k of a[k][r] b[k][j].
struct TileArgs {
  int64_t k;  // packed elements
  const void* a;
  int64_t a_stride;
  const void* b;
  int64_t b_stride;
  void* c;
  int64_t c_row_step, c_column_step;
  int64_t rows, columns;
  int64_t b_ahead;         // tile_unpacked prefetches b that many elements ahead
  bool add, bias_of_rows;  // the bias is of row r instead of column j
  const void* bias;        // null: none
};

// c[r, j] = bias + sum over k of a[r, k] b[j, k], for the columns j in [begin, end): the operands
// lie with k together. a is of the set's dtype, b what the kernel reads. c and the bias are those
// of column `begin`.
struct DotArgs {
  const void *a, *b;
  int64_t rows, k, begin, end;
  void* c;
  int64_t c_row_step, c_column_step;
  bool bias_of_rows;
  const void* bias;  // null: none
};

// y[j] = sum over k of a[k] b[k, j], for b [k, n] as it lies, k >= 1.
struct RowArgs {
  const float* a;
  const void* b;
  int64_t k, n;
  float* y;
};

// Bytes ahead where b is one stream: a product with one row, which so reads 28 GB/s with one
// thread, against 21 four columns at a time. Bytes of bf16 are read 6 % sooner than 4 KiB ahead,
// and 12 % sooner than 2; of f32 as soon.
constexpr int64_t kOneStreamAhead = 8192;

// How many elements ahead dot products of `together` elements of b prefetch: what comes after
// them, 8 KiB at least.
inline int64_t StreamAhead(int64_t together, int64_t size) {
  return together * ((8192 / size + together - 1) / together);
}

// What reads an operand from where it lies.
struct Readers {
  void (*pack)(const PackArgs& args);
  // A tile of unpacked_rows at most, with b where it lies, rows of columns. k and b_stride are in
  // elements of b. Any number of columns that are whole vectors, best a multiple of
  // unpacked_columns, which are four vectors.
  void (*tile_unpacked)(const TileArgs& args);
  void (*dot)(const DotArgs& args);
};

// Sums, c and bias are f64 for f64, else f32.
struct GemmKernels {
  int rows, columns;  // the largest tile of packed operands
  int row_stride;     // from k to k of packed rows
  int packed_bytes;   // of a packed element
  int packed_k;       // how many k a packed element holds
  void (*tile)(const TileArgs& args);
  int unpacked_rows, unpacked_columns;
  Readers own;      // of operands of the dtype the set is for
  Readers rounded;  // of f32, rounded to that dtype on the way; bf16 only
};

const GemmKernels& KernelsF32();
const GemmKernels& KernelsF64();
const GemmKernels& KernelsBF16();
// By the processor's own bf16 instructions; null where it has none.
const GemmKernels* NativeKernelsBF16();
const GemmKernels& KernelsF16();

// One row of f32 against a b of f32, bf16 or f16; and the sum of `count` rows y [n], and a bias (or
// null), one after the other.
void SumRows(DType dtype, const RowArgs& args);
void AddParts(const float* parts, int64_t count, int64_t n, const float* bias, float* y);

// What reads a bf16 or f16 b into products of f32.
const Readers& WidenedBF16();
const Readers& WidenedF16();

}  // namespace gemm_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_GEMM_KERNELS_GEMM_KERNELS_H_
