#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/layout/layout_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target:
#include <algorithm>
#include <cstring>

#include "hwy/highway.h"
#include "ops/layout/layout_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace layout_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// One by one. By memcpy, for an element of 8 bytes may be a pair of floats (see CopyStrided), which
// promises less alignment.
template <int bytes>
void TransposeElements(const TransposeArgs& args, int64_t k_begin, int64_t k_end, int64_t n_begin,
                       int64_t n_end) {
  const char* HWY_RESTRICT from = static_cast<const char*>(args.from);
  char* HWY_RESTRICT to = static_cast<char*>(args.to);
  for (int64_t k = k_begin; k < k_end; ++k) {
    for (int64_t n = n_begin; n < n_end; ++n) {
      std::memcpy(to + (k * args.to_stride + n) * bytes, from + (n * args.from_stride + k) * bytes,
                  bytes);
    }
  }
}

#if HWY_TARGET != HWY_SCALAR

// A small square of 128-bit rows: to[k] = the elements k of from[0 .. lanes). Strides in elements.
void TransposeSquare(const uint64_t* HWY_RESTRICT from, int64_t from_stride,
                     uint64_t* HWY_RESTRICT to, int64_t to_stride) {
  const hn::FixedTag<uint64_t, 2> d;
  const auto a = hn::LoadU(d, from), b = hn::LoadU(d, from + from_stride);
  hn::StoreU(hn::InterleaveLower(d, a, b), d, to);
  hn::StoreU(hn::InterleaveUpper(d, a, b), d, to + to_stride);
}

void TransposeSquare(const uint32_t* HWY_RESTRICT from, int64_t from_stride,
                     uint32_t* HWY_RESTRICT to, int64_t to_stride) {
  const hn::FixedTag<uint32_t, 4> d;
  const hn::FixedTag<uint64_t, 2> d64;
  const auto a = hn::LoadU(d, from), b = hn::LoadU(d, from + from_stride);
  const auto c = hn::LoadU(d, from + 2 * from_stride), e = hn::LoadU(d, from + 3 * from_stride);
  const auto ab01 = hn::BitCast(d64, hn::InterleaveLower(d, a, b));
  const auto ab23 = hn::BitCast(d64, hn::InterleaveUpper(d, a, b));
  const auto ce01 = hn::BitCast(d64, hn::InterleaveLower(d, c, e));
  const auto ce23 = hn::BitCast(d64, hn::InterleaveUpper(d, c, e));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, ab01, ce01)), d, to);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, ab01, ce01)), d, to + to_stride);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, ab23, ce23)), d, to + 2 * to_stride);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, ab23, ce23)), d, to + 3 * to_stride);
}

void TransposeSquare(const uint16_t* HWY_RESTRICT from, int64_t from_stride,
                     uint16_t* HWY_RESTRICT to, int64_t to_stride) {
  const hn::FixedTag<uint16_t, 8> d;
  const hn::FixedTag<uint32_t, 4> d32;
  const hn::FixedTag<uint64_t, 2> d64;
  // Pairs of rows, then pairs of pairs: quads[half][q] holds the elements 4 half + {0, 1} and, in
  // the second register, + {2, 3}, of four rows.
  for (int half = 0; half < 2; ++half) {
    const auto low_or_high = [&](int row) {
      const auto a = hn::LoadU(d, from + row * from_stride);
      const auto b = hn::LoadU(d, from + (row + 1) * from_stride);
      return hn::BitCast(d32,
                         half == 0 ? hn::InterleaveLower(d, a, b) : hn::InterleaveUpper(d, a, b));
    };
    const auto rows01 = low_or_high(0), rows23 = low_or_high(2);
    const auto rows45 = low_or_high(4), rows67 = low_or_high(6);
    const auto low03 = hn::BitCast(d64, hn::InterleaveLower(d32, rows01, rows23));
    const auto low47 = hn::BitCast(d64, hn::InterleaveLower(d32, rows45, rows67));
    const auto high03 = hn::BitCast(d64, hn::InterleaveUpper(d32, rows01, rows23));
    const auto high47 = hn::BitCast(d64, hn::InterleaveUpper(d32, rows45, rows67));
    uint16_t* HWY_RESTRICT out = to + 4 * half * to_stride;
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, low03, low47)), d, out);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, low03, low47)), d, out + to_stride);
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, high03, high47)), d, out + 2 * to_stride);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, high03, high47)), d, out + 3 * to_stride);
  }
}

// In tiles of one cache line squared. Copying the tile together first (lines a power of two apart
// fight for the same few ways of the cache) was no win.
template <class T>
void TransposeTiles(const TransposeArgs& args) {
  constexpr int64_t kTile = 64 / sizeof(T), kSquare = 16 / sizeof(T);
  const T* HWY_RESTRICT from = static_cast<const T*>(args.from);
  T* HWY_RESTRICT to = static_cast<T*>(args.to);
  const int64_t k_tiles = args.k_size / kTile * kTile, n_tiles = args.n_size / kTile * kTile;
  for (int64_t k0 = 0; k0 < k_tiles; k0 += kTile) {
    for (int64_t n0 = 0; n0 < n_tiles; n0 += kTile) {
      for (int64_t k = k0; k < k0 + kTile; k += kSquare) {
        for (int64_t n = n0; n < n0 + kTile; n += kSquare) {
          TransposeSquare(from + n * args.from_stride + k, args.from_stride,
                          to + k * args.to_stride + n, args.to_stride);
        }
      }
    }
  }
  // The edges.
  TransposeElements<sizeof(T)>(args, k_tiles, args.k_size, 0, n_tiles);
  TransposeElements<sizeof(T)>(args, 0, args.k_size, n_tiles, args.n_size);
}

#else

template <class T>
void TransposeTiles(const TransposeArgs& args) {
  TransposeElements<sizeof(T)>(args, 0, args.k_size, 0, args.n_size);
}

#endif  // HWY_TARGET != HWY_SCALAR

void TransposeBlock(const TransposeArgs& args) {
  switch (args.element) {
    case 2:
      return TransposeTiles<uint16_t>(args);
    case 4:
      return TransposeTiles<uint32_t>(args);
    case 8:
      return TransposeTiles<uint64_t>(args);
    default:
      return TransposeElements<1>(args, 0, args.k_size, 0, args.n_size);
  }
}

template <class T>
T SumRow(const T* HWY_RESTRICT x, int64_t n) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
  auto a = hn::Zero(d), b = hn::Zero(d);
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    a = hn::Add(a, hn::LoadU(d, x + i));
    b = hn::Add(b, hn::LoadU(d, x + i + lanes));
  }
  T sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(a, b)));
  for (; i < n; ++i) sum += x[i];
  return sum;
}

template <class T>
void SumColumns(const T* HWY_RESTRICT x, int64_t n, int64_t inner, int64_t columns,
                T* HWY_RESTRICT sum) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
  int64_t i = 0;
  for (; i + lanes <= columns; i += lanes) {
    auto total = hn::LoadU(d, x + i);
    for (int64_t j = 1; j < n; ++j) total = hn::Add(total, hn::LoadU(d, x + j * inner + i));
    hn::StoreU(total, d, sum + i);
  }
  for (; i < columns; ++i) {
    T total = x[i];
    for (int64_t j = 1; j < n; ++j) total += x[j * inner + i];
    sum[i] = total;
  }
}

template <class T>
void Sum(const SumArgs& args, int64_t begin, int64_t end) {
  const int64_t blocks = SumBlocks(args.n), column_blocks = SumColumnBlocks(args.inner);
  for (int64_t piece = begin; piece < end; ++piece) {
    const int64_t column = piece % column_blocks * kSumColumns;
    const int64_t o = piece / column_blocks / blocks;
    const int64_t row = piece / column_blocks % blocks * kSumRows;
    const int64_t rows = std::min(kSumRows, args.n - row);
    const T* x = static_cast<const T*>(args.x) + (o * args.n + row) * args.inner + column;
    T* sum = static_cast<T*>(args.sum) + piece / column_blocks * args.inner + column;
    if (args.inner == 1) {
      *sum = SumRow(x, rows);
    } else {
      SumColumns(x, rows, args.inner, std::min(kSumColumns, args.inner - column), sum);
    }
  }
}

void SumF32(const SumArgs& args, int64_t begin, int64_t end) { Sum<float>(args, begin, end); }
void SumF64(const SumArgs& args, int64_t begin, int64_t end) { Sum<double>(args, begin, end); }

}  // namespace HWY_NAMESPACE
}  // namespace layout_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace layout_internal {

HWY_EXPORT(TransposeBlock);
HWY_EXPORT(SumF32);
HWY_EXPORT(SumF64);

void TransposeBlock(const TransposeArgs& args) { HWY_DYNAMIC_DISPATCH(TransposeBlock)(args); }
void SumF32(const SumArgs& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(SumF32)(args, begin, end);
}
void SumF64(const SumArgs& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(SumF64)(args, begin, end);
}

}  // namespace layout_internal
}  // namespace residual
#endif  // HWY_ONCE
