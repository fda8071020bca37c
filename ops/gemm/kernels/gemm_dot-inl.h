// Few rows against a `b` that lies with k together: dot products, which read b once, as it lies.
// Included once per Highway target.

#if defined(RESIDUAL_OPS_GEMM_KERNELS_GEMM_DOT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESIDUAL_OPS_GEMM_KERNELS_GEMM_DOT_INL_H_
#undef RESIDUAL_OPS_GEMM_KERNELS_GEMM_DOT_INL_H_
#else
#define RESIDUAL_OPS_GEMM_KERNELS_GEMM_DOT_INL_H_
#endif

#include "hwy/highway.h"
#include "ops/gemm/kernels/gemm_kernels.h"
#include "ops/gemm/kernels/gemm_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace gemm_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR

// The 128-bit blocks of v, added up.
template <class D>
HWY_INLINE auto SumOfBlocks(D d, hn::Vec<D> v) {
  if constexpr (hn::MaxLanes(D()) * sizeof(hn::TFromD<D>) == 16) {
    return v;
  } else {
    const hn::Half<D> half;
    return SumOfBlocks(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  }
}

// to[j] = the sum of v[j]. Four at once: one by one they took a quarter of a product with K = 768.
HWY_INLINE void StoreSums(const Vector<float> (&v)[4], float* to) {
  const Tag<float> d;
  const hn::Repartition<double, Tag<float>> pairs;
  const auto ab = hn::Add(hn::InterleaveLower(d, v[0], v[1]), hn::InterleaveUpper(d, v[0], v[1]));
  const auto cd = hn::Add(hn::InterleaveLower(d, v[2], v[3]), hn::InterleaveUpper(d, v[2], v[3]));
  const auto low = hn::InterleaveLower(pairs, hn::BitCast(pairs, ab), hn::BitCast(pairs, cd));
  const auto high = hn::InterleaveUpper(pairs, hn::BitCast(pairs, ab), hn::BitCast(pairs, cd));
  const auto sums = SumOfBlocks(d, hn::Add(hn::BitCast(d, low), hn::BitCast(d, high)));
  hn::StoreU(sums, hn::FixedTag<float, 4>(), to);
}

#endif  // HWY_TARGET != HWY_SCALAR

template <class T, int kC>
HWY_INLINE void StoreSums(const Vector<T> (&v)[kC], T* to) {
  const Tag<T> d;
  for (int j = 0; j < kC; ++j) to[j] = hn::GetLane(hn::SumOfLanes(d, v[j]));
}

// kR x kC products side by side; 4 x 4 use each loaded vector four times. kStream: the columns are
// read here first, and those after them are prefetched.
template <class T, class A, class B, int kR, int kC, bool kStream>
HWY_INLINE void DotTile(const A* a, const B* b, const DotArgs& args, int64_t r0, int64_t j0) {
  const int64_t k = args.k;
  const Tag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  Vector<T> sum[kR][kC];
#pragma GCC unroll 4
  for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 4
    for (int j = 0; j < kC; ++j) sum[r][j] = hn::Zero(d);
  }
  const int64_t ahead = StreamAhead(kC * k, sizeof(B));
  int64_t i = 0;
  if (kR == 1 && kStream && args.rows == 1) {  // column after column, as memory likes it best
#pragma GCC unroll 4
    for (int j = 0; j < kC; ++j) {
      const B* column = b + j * k;
      Vector<T> more[3] = {hn::Zero(d), hn::Zero(d), hn::Zero(d)};
      for (i = 0; i + 4 * lanes <= k; i += 4 * lanes) {
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) {
          Vector<T>& to = v == 0 ? sum[0][j] : more[v - 1];
          const B* x = column + i + v * lanes;
          if (v * lanes * sizeof(B) % 64 == 0) PrefetchToSecond(x + kOneStreamAhead / sizeof(B));
          to = hn::MulAdd(LoadWidened(d, a + i + v * lanes), LoadWidened(d, x), to);
        }
      }
      sum[0][j] = hn::Add(hn::Add(sum[0][j], more[0]), hn::Add(more[1], more[2]));
    }
  }
  for (; i + lanes <= k; i += lanes) {
    Vector<T> column[kC];
#pragma GCC unroll 4
    for (int j = 0; j < kC; ++j) {
      if (kStream && i * sizeof(B) % 64 == 0) PrefetchToSecond(b + j * k + i + ahead);
      column[j] = LoadWidened(d, b + j * k + i);
    }
#pragma GCC unroll 4
    for (int r = 0; r < kR; ++r) {
      const auto x = LoadWidened(d, a + r * k + i);
#pragma GCC unroll 4
      for (int j = 0; j < kC; ++j) sum[r][j] = hn::MulAdd(x, column[j], sum[r][j]);
    }
  }
  T total[kR][kC];
#pragma GCC unroll 4
  for (int r = 0; r < kR; ++r) StoreSums(sum[r], total[r]);
  for (; i < k; ++i) {
    for (int r = 0; r < kR; ++r) {
      for (int j = 0; j < kC; ++j) total[r][j] += Widened(a[r * k + i]) * Widened(b[j * k + i]);
    }
  }
  T* c = static_cast<T*>(args.c) + r0 * args.c_row_step + (j0 - args.begin) * args.c_column_step;
  const T* bias = static_cast<const T*>(args.bias);
  for (int r = 0; r < kR; ++r) {
    for (int j = 0; j < kC; ++j) {
      const T base =
          bias == nullptr ? T{0} : bias[args.bias_of_rows ? r0 + r : j0 - args.begin + j];
      c[r * args.c_row_step + j * args.c_column_step] = base + total[r][j];
    }
  }
}

template <class T, class A, class B, int kC>
void DotRows(const DotArgs& args, int64_t j) {
  const A* a = static_cast<const A*>(args.a);
  const B* b = static_cast<const B*>(args.b) + j * args.k;
  constexpr bool kStream = kC == 4;
  const int64_t first = (args.rows - 1) % 4 + 1;
  switch (first) {
    case 1:
      DotTile<T, A, B, 1, kC, kStream>(a, b, args, 0, j);
      break;
    case 2:
      DotTile<T, A, B, 2, kC, kStream>(a, b, args, 0, j);
      break;
    case 3:
      DotTile<T, A, B, 3, kC, kStream>(a, b, args, 0, j);
      break;
    default:
      DotTile<T, A, B, 4, kC, kStream>(a, b, args, 0, j);
  }
  for (int64_t r = first; r < args.rows; r += 4) {
    DotTile<T, A, B, 4, kC, false>(a + r * args.k, b, args, r, j);
  }
}

template <class T, class A, class B>
void Dot(const DotArgs& args) {
  int64_t j = args.begin;
  for (; j + 4 <= args.end; j += 4) DotRows<T, A, B, 4>(args, j);
  for (; j < args.end; ++j) DotRows<T, A, B, 1>(args, j);
}

}  // namespace HWY_NAMESPACE
}  // namespace gemm_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#endif  // RESIDUAL_OPS_GEMM_KERNELS_GEMM_DOT_INL_H_
