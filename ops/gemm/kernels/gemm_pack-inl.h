// Copies operands to where tiles read them. Included once per Highway target.

#if defined(RESIDUAL_OPS_GEMM_KERNELS_GEMM_PACK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESIDUAL_OPS_GEMM_KERNELS_GEMM_PACK_INL_H_
#undef RESIDUAL_OPS_GEMM_KERNELS_GEMM_PACK_INL_H_
#else
#define RESIDUAL_OPS_GEMM_KERNELS_GEMM_PACK_INL_H_
#endif

#include <type_traits>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "ops/gemm/kernels/gemm_kernels.h"
#include "ops/gemm/kernels/gemm_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace gemm_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// x together: rows of the source are copied, all panels of a row at once, for the source may come
// from memory and a row of one panel is only two cache lines of it.
constexpr int64_t kAhead = 4;

template <class T, class S>
void PackRuns(const PackArgs& args) {
  const Tag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const S* from = static_cast<const S*>(args.from.data);
  const S* const last_vector = from + args.from.elements - lanes;
  for (int64_t i = 0; i < args.k; ++i) {
    const S* row = from + (args.k0 + i) * args.from.k_step;
    T* HWY_RESTRICT to = static_cast<T*>(args.to) + i * args.stride;
    for (int64_t p = args.begin; p < args.end; ++p, to += args.panel_step) {
      const S* HWY_RESTRICT x = row + args.panels.Begin(p);
      const int64_t width = args.panels.Width(p);
      int64_t j = 0;
      for (; j < width && x + j <= last_vector; j += lanes) {
        hwy::Prefetch(x + kAhead * args.from.k_step + j);
        hn::StoreU(LoadWidened(d, x + j), d, to + j);
      }
      for (; j < width; ++j) to[j] = Widened(x[j]);
    }
  }
}

#if HWY_TARGET != HWY_SCALAR

// A full vector of 128-bit blocks, block i from p[i * step].
template <class D, class T>
HWY_INLINE hn::Vec<D> LoadBlocks(D d, const T* const* p, int64_t step, int64_t offset) {
  if constexpr (hn::MaxLanes(D()) * sizeof(T) == 16) {
    return hn::LoadU(d, p[0] + offset);
  } else {
    const hn::Half<D> half;
    constexpr int64_t kBlocks = hn::MaxLanes(D()) * sizeof(T) / 32;
    return hn::Combine(d, LoadBlocks(half, p + kBlocks * step, step, offset),
                       LoadBlocks(half, p, step, offset));
  }
}

// to[q] = element q of each of the rows, for the 4 (f32) or 2 (f64) elements at `offset`.
HWY_INLINE void TransposeBlocks(const float* const* rows, int64_t offset, float* HWY_RESTRICT to,
                                int64_t stride) {
  const Tag<float> d;
  const hn::Repartition<uint64_t, Tag<float>> d64;
  const auto r0 = LoadBlocks(d, rows, 4, offset), r1 = LoadBlocks(d, rows + 1, 4, offset);
  const auto r2 = LoadBlocks(d, rows + 2, 4, offset), r3 = LoadBlocks(d, rows + 3, 4, offset);
  const auto low01 = hn::BitCast(d64, hn::InterleaveLower(d, r0, r1));
  const auto low23 = hn::BitCast(d64, hn::InterleaveLower(d, r2, r3));
  const auto high01 = hn::BitCast(d64, hn::InterleaveUpper(d, r0, r1));
  const auto high23 = hn::BitCast(d64, hn::InterleaveUpper(d, r2, r3));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, low01, low23)), d, to);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, low01, low23)), d, to + stride);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, high01, high23)), d, to + 2 * stride);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, high01, high23)), d, to + 3 * stride);
}
HWY_INLINE void TransposeBlocks(const double* const* rows, int64_t offset, double* HWY_RESTRICT to,
                                int64_t stride) {
  const Tag<double> d;
  const auto r0 = LoadBlocks(d, rows, 2, offset), r1 = LoadBlocks(d, rows + 1, 2, offset);
  hn::StoreU(hn::InterleaveLower(d, r0, r1), d, to);
  hn::StoreU(hn::InterleaveUpper(d, r0, r1), d, to + stride);
}

// k together: the panel is transposed in registers, a vector of rows at a time. Rows beyond its
// width are the last one again.
template <class T>
void TransposePanel(const T* from, int64_t x_step, int64_t width, int64_t k, T* to,
                    int64_t stride) {
  constexpr int64_t kLanes = hn::MaxLanes(Tag<T>()), kSquare = 16 / sizeof(T);
  for (int64_t x0 = 0; x0 < width; x0 += kLanes, to += kLanes) {
    const T* rows[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) rows[i] = from + std::min(x0 + i, width - 1) * x_step;
    int64_t i = 0;
    for (; i + kSquare <= k; i += kSquare) TransposeBlocks(rows, i, to + i * stride, stride);
    for (; i < k; ++i) {
      for (int64_t x = 0; x < kLanes; ++x) to[i * stride + x] = rows[x][i];
    }
  }
}

#else

template <class T>
void TransposePanel(const T* from, int64_t x_step, int64_t width, int64_t k, T* to,
                    int64_t stride) {
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t x = 0; x < width; ++x) to[i * stride + x] = from[x * x_step + i];
  }
}

#endif  // HWY_TARGET != HWY_SCALAR

template <class T, class S>
void PackColumns(const PackArgs& args) {
  const S* from = static_cast<const S*>(args.from.data) + args.k0;
  const int64_t x_step = args.from.x_step;
  T* to = static_cast<T*>(args.to);
  for (int64_t p = args.begin; p < args.end; ++p, to += args.panel_step) {
    const S* x = from + args.panels.Begin(p) * x_step;
    const int64_t width = args.panels.Width(p);
    if constexpr (std::is_same_v<T, S>) {
      TransposePanel(x, x_step, width, args.k, to, args.stride);
    } else {  // widened on the way, a part of k at a time
      constexpr int64_t kPart = 64;
      constexpr int64_t kColumns = kVectors * hn::MaxLanes(Tag<T>());
      T wide[std::max<int64_t>(kColumns, kRows) * kPart];
      for (int64_t k0 = 0; k0 < args.k; k0 += kPart) {
        const int64_t k = std::min(kPart, args.k - k0);
        const Tag<T> d;
        const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
        for (int64_t j = 0; j < width; ++j) {
          int64_t i = 0;
          for (; i + lanes <= k; i += lanes) {
            hn::StoreU(LoadWidened(d, x + j * x_step + k0 + i), d, wide + j * kPart + i);
          }
          for (; i < k; ++i) wide[j * kPart + i] = Widened(x[j * x_step + k0 + i]);
        }
        TransposePanel(wide, kPart, width, k, to + k0 * args.stride, args.stride);
      }
    }
  }
}

template <class T, class S>
void Pack(const PackArgs& args) {
  if (args.from.x_step == 1) {
    PackRuns<T, S>(args);
  } else {
    PackColumns<T, S>(args);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gemm_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#endif  // RESIDUAL_OPS_GEMM_KERNELS_GEMM_PACK_INL_H_
