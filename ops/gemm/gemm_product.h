// Private: one product, and the ways to make it. Large ones by blocks in gemm.cc, which also
// chooses; those of few rows, which read b where it lies, in gemm_few_rows.cc.

#ifndef RESIDUAL_OPS_GEMM_GEMM_PRODUCT_H_
#define RESIDUAL_OPS_GEMM_GEMM_PRODUCT_H_

#include <cstdint>

#include "absl/types/span.h"
#include "ops/gemm/gemm.h"
#include "ops/gemm/kernels/gemm_kernels.h"
#include "tensor/base/parallel.h"
#include "tensor/core/storage.h"

namespace residual {
namespace gemm_internal {

// Of a part of k at most. Deep, so that sums are read and written seldom.
constexpr int64_t kDepth = 512;

inline int64_t RoundUp(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// The size of equal parts of n, of `most` at most, in units.
inline int64_t EqualParts(int64_t n, int64_t most, int64_t unit) {
  return RoundUp(NumChunks(n, NumChunks(n, most)), unit);
}

inline char* Data(const StorageRef& storage) { return static_cast<char*>(storage->data()); }

struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

// One product, and what is the same for all of its tasks.
class Product {
 public:
  Product(const GemmArgs& args, const GemmKernels& kernels)
      : g_(args),
        kernels_(kernels),
        a_size_(args.f32_a ? 4 : SizeOf(args.dtype)),
        b_size_(args.f32_b ? 4 : SizeOf(args.narrow_b == kF32 ? args.dtype : args.narrow_b)),
        c_size_(args.f32_c ? 4 : SizeOf(args.dtype)),
        sum_size_(args.dtype == kF64 ? 8 : 4),
        read_a_(args.f32_a ? kernels.rounded : kernels.own),
        read_b_(args.narrow_b == kBF16  ? WidenedBF16()
                : args.narrow_b == kF16 ? WidenedF16()
                : args.f32_b            ? kernels.rounded
                                        : kernels.own),
        a_{args.a, args.transpose_a ? 1 : args.K, args.transpose_a ? args.M : 1, args.M * args.K},
        b_{args.b, args.transpose_b ? args.K : 1, args.transpose_b ? 1 : args.N, args.K * args.N},
        depth_(EqualParts(args.K, kDepth, kernels.packed_k)),
        // Two cache lines more than a panel holds: panels a power of two apart would share the
        // same few sets of the caches.
        a_step_(Packed(depth_) * kernels.row_stride + 128 / kernels.packed_bytes),
        b_step_(Packed(depth_) * kernels.columns + 128 / kernels.packed_bytes) {}

  // This product and others of the same a.
  void Blocked(absl::Span<const Product> others = {}) const;
  void OneRow() const;
  void FewRows() const;
  void Dots() const;

 private:
  // How many regions a result is cut into.
  struct Grid {
    int64_t down, across;
  };
  // Rows and k that are packed at once, and columns.
  struct Block {
    Range m, n, k;
    Panels rows;
    char* a;         // packed
    bool packed;     // a has been
    bool as_a_lies;  // it never is
    char* sums;      // [m, n], if c cannot hold sums over several blocks of k

    char* Panel(const Product& p, int64_t i, int64_t part) const {
      return a + (part * rows.Count() + i) * p.a_step_ * p.kernels_.packed_bytes;
    }
  };
  // Where the sums of a task are made. Steps are in elements.
  struct Sums {
    char* data;
    int64_t row_step, column_step;
    StorageRef scratch;
  };

  bool Narrow() const { return sum_size_ != c_size_; }
  int64_t Packed(int64_t k) const { return (k + kernels_.packed_k - 1) / kernels_.packed_k; }
  // Whether tiles can read an operand unpacked, and not all of it from a few sets of the caches.
  bool AsItLies(const Operand& x, int64_t size) const {
    return x.x_step == 1 && size == SizeOf(g_.dtype) && size == sum_size_ && x.k_step * size < 4096;
  }
  static const char* At(const Operand& x, int64_t size, int64_t i, int64_t k) {
    return static_cast<const char*>(x.data) + (i * x.x_step + k * x.k_step) * size;
  }
  static PackArgs Packing(const Operand& from, int64_t size, int64_t x, int64_t k,
                          const Panels& panels, void* to, int64_t stride, int64_t panel_step);
  PackArgs PackingA(int64_t x, int64_t k, const Panels& panels, void* to, int64_t stride,
                    int64_t panel_step) const {
    return Packing(a_, a_size_, x, k, panels, to, stride, panel_step);
  }
  PackArgs PackingB(int64_t x, int64_t k, const Panels& panels, void* to, int64_t stride,
                    int64_t panel_step) const {
    return Packing(b_, b_size_, x, k, panels, to, stride, panel_step);
  }
  const void* Bias(int64_t m, int64_t n) const {
    if (g_.bias == nullptr) return nullptr;
    return static_cast<const char*>(g_.bias) + (g_.transposed_c ? m : n) * sum_size_;
  }
  Sums SumsOf(Range m, Range n) const;
  Grid GridOf(int64_t columns) const;
  void Region(absl::Span<const Product* const> products, Range m, int64_t column,
              int64_t across) const;
  void PackRows(const Block& block, int64_t panel, int64_t part) const;
  void Task(const Block& block, Range n, char* packed_b) const;
  struct Rows;
  void Columns(const Rows& rows, Range n) const;
  void Finish(Range m, Range n, const Sums& sums) const;

  const GemmArgs& g_;
  const GemmKernels& kernels_;
  const int64_t a_size_, b_size_, c_size_, sum_size_;
  const Readers &read_a_, &read_b_;
  const Operand a_, b_;
  const int64_t depth_;            // of a part of k
  const int64_t a_step_, b_step_;  // from panel to panel, in packed elements
};

}  // namespace gemm_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_GEMM_GEMM_PRODUCT_H_
