#include <algorithm>
#include <cstring>

#include "ops/gemm/gemm_product.h"
#include "ops/simd/convert.h"

namespace residual {
namespace gemm_internal {
namespace {

// Columns of a task of few rows, or of one, and multiplications it is worth a thread for.
constexpr int64_t kStreamed = 2048, kStreamedForOne = 4096;
constexpr double kLeastStreamed = 1 << 17;
// Dot products of fewer multiplications are left to one thread; a piece has some at least.
constexpr double kLeastDots = 1 << 16, kLeastPiece = 1 << 14;
// Pieces of a thread at least, and numbers of b in one at most. All threads have as many. A thread
// goes on from one piece to the next as if they were one, and the last to be done waits for a piece
// at most: with pieces of eight times as many a token of GPT-2 small took 3 % longer.
constexpr int64_t kPiecesOfThread = 4, kPiece = int64_t{1} << 17;

// [rows, columns] to [columns, rows]; small.
void CopyTransposed(const void* from, int64_t rows, int64_t columns, int64_t size, char* to) {
  const char* x = static_cast<const char*>(from);
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t r = 0; r < rows; ++r, to += size)
      std::memcpy(to, x + (r * columns + c) * size, size);
  }
}

}  // namespace

// One row of f32 against rows of columns: k is cut into tasks, each of which reads one piece of b
// from end to end, and their sums are added in order. How many depends on the sizes alone.
void Product::OneRow() const {
  const int64_t work = g_.K * g_.N;
  int64_t parts = 1;  // 8, or 16 of a large product: each has a sum of its own to be added
  if (work >= kLeastStreamed) {
    parts = std::max(std::clamp<int64_t>(work / kPiece, 2, 8), std::min<int64_t>(16, work >> 19));
  }
  const int64_t depth = NumChunks(g_.K, std::min(parts, g_.K));
  const int64_t count = NumChunks(g_.K, depth);
  const StorageRef rows = AllocateHost(count * g_.N * sizeof(float));
  float* sums = reinterpret_cast<float*>(Data(rows));
  ParallelFor(g_.K, depth, [&](int64_t begin, int64_t end) {
    RowArgs args;
    args.a = static_cast<const float*>(g_.a) + begin;
    args.b = static_cast<const char*>(g_.b) + begin * g_.N * b_size_;
    args.k = end - begin;
    args.n = g_.N;
    args.y = sums + begin / depth * g_.N;
    SumRows(g_.narrow_b, args);
  });
  const Sums to = SumsOf({0, 1}, {0, g_.N});
  AddParts(sums, count, g_.N, static_cast<const float*>(g_.bias),
           reinterpret_cast<float*>(to.data));
  Finish({0, 1}, {0, g_.N}, to);
}

// The rows of a product of few: k after k, a few rows each.
struct Product::Rows {
  Panels panels;
  const char* data;
  int64_t stride;      // from k to k, in packed elements
  int64_t panel_step;  // in packed elements
  StorageRef packed;
};

// Few rows against rows of columns (b is [K, N]): b is read once, where it lies. Its columns are
// cut into tasks; a task goes through k in bands, so that it reads long pieces of a few rows of b
// at a time, as memory likes it, and its sums stay in cache.
void Product::FewRows() const {
  Rows rows;
  const int64_t count = NumChunks(g_.M, kernels_.unpacked_rows);
  rows.panels = {g_.M, g_.M / count, g_.M % count};
  rows.stride = kernels_.row_stride;
  rows.panel_step = Packed(g_.K) * rows.stride;
  if (g_.M == 1 && !g_.f32_a && kernels_.packed_bytes == a_size_) {  // lies as it should
    rows.data = static_cast<const char*>(g_.a);
    rows.stride = 1;
  } else {
    rows.packed = AllocateHost(count * rows.panel_step * kernels_.packed_bytes);
    rows.data = Data(rows.packed);
    PackArgs args = PackingA(0, 0, rows.panels, Data(rows.packed), rows.stride, rows.panel_step);
    args.k = g_.K;
    read_a_.pack(args);
  }
  const int64_t widest = kernels_.unpacked_columns;
  const double work = static_cast<double>(g_.M) * g_.K;
  const int64_t least = RoundUp(static_cast<int64_t>(kLeastStreamed / work), widest);
  // With one row the pieces of b are as long as can be: 32 GB/s of two threads, against 28 in four
  // pieces, and 26 of one thread, against 23.
  const int64_t most = g_.M == 1 ? std::min(kStreamedForOne, NumChunks(g_.N, NumThreads()))
                                 : std::min(kStreamed, NumChunks(g_.N, 4));
  const int64_t grain = std::max(least, RoundUp(most, widest));
  ParallelFor(g_.N, grain, [&](int64_t begin, int64_t end) { Columns(rows, {begin, end}); });
}

void Product::Columns(const Rows& rows, Range n) const {
  const Sums sums = SumsOf({0, g_.M}, n);
  const int64_t lanes = kernels_.unpacked_columns / 4;
  const int64_t whole = n.size() / lanes * lanes, rest = n.size() - whole;
  TileArgs tile;
  tile.a_stride = rows.stride;
  tile.c_row_step = sums.row_step;
  tile.c_column_step = sums.column_step;
  tile.bias_of_rows = g_.transposed_c;
  // The deeper a band, the less often its sums are read and written; the less deep, the longer the
  // pieces of b. With 16 rows and b [768, 50257] from memory, bands of 64 took one thread 14.3 ms,
  // of 128 17.7, of 16 16.6; prefetching 256 bytes ahead instead of 1 KiB, a third more. With one
  // row two threads read 38 GB/s; prefetching the next band instead, 29.
  const int64_t band = g_.M == 1 ? 8 : g_.M <= 3 ? 32 : 64;
  const int64_t ahead = 1024 / b_size_;
  StorageRef packed;
  if (rest > 0) packed = AllocateHost(Packed(band) * kernels_.columns * kernels_.packed_bytes);
  for (int64_t k = 0; k < g_.K; k += band) {
    const int64_t depth = std::min(band, g_.K - k);
    tile.add = k > 0;
    const int64_t step = rows.panels.Count() == 1 ? whole : kernels_.unpacked_columns;
    const auto all_rows = [&](int64_t column, void (*kernel)(const TileArgs&)) {
      for (int64_t p = 0; p < rows.panels.Count(); ++p) {
        const int64_t row = rows.panels.Begin(p);
        tile.b_ahead = p > 0 ? 0 : ahead;
        tile.rows = rows.panels.Width(p);
        tile.a =
            rows.data + (p * rows.panel_step + Packed(k) * rows.stride) * kernels_.packed_bytes;
        tile.c = sums.data + (row * sums.row_step + column * sums.column_step) * sum_size_;
        tile.bias = Bias(row, n.begin + column);
        kernel(tile);
      }
    };
    tile.k = depth;
    tile.b_stride = g_.N;
    for (int64_t j = 0; j < whole; j += step) {
      tile.columns = std::min(step, whole - j);
      tile.b = static_cast<const char*>(b_.data) + (k * g_.N + n.begin + j) * b_size_;
      all_rows(j, read_b_.tile_unpacked);
    }
    if (rest > 0) {  // less than a vector: not to be read past its end
      PackArgs args = PackingB(n.begin + whole, k, {rest, kernels_.columns, 0}, Data(packed),
                               kernels_.columns, 0);
      args.k = depth;
      read_b_.pack(args);
      tile.k = Packed(depth);
      tile.b = args.to;
      tile.b_stride = kernels_.columns;
      tile.columns = rest;
      all_rows(whole, kernels_.tile);
    }
  }
  Finish({0, g_.M}, n, sums);
}

// Few rows against columns with k together (b is [N, K]): dot products, which read b once, where it
// lies.
void Product::Dots() const {
  DotArgs all;
  all.a = g_.a;
  StorageRef copy, rounded;
  if (g_.transpose_a && g_.M > 1) {
    copy = AllocateHost(g_.M * g_.K * a_size_);
    CopyTransposed(g_.a, g_.K, g_.M, a_size_, Data(copy));
    all.a = Data(copy);
  }
  if (g_.f32_a) {
    rounded = AllocateHost(g_.M * g_.K * SizeOf(g_.dtype));
    Round(g_.dtype, static_cast<const float*>(all.a), Data(rounded), g_.M * g_.K);
    all.a = Data(rounded);
  }
  all.b = g_.b;
  all.rows = g_.M;
  all.k = g_.K;
  all.bias_of_rows = g_.transposed_c;
  const double work = static_cast<double>(g_.M) * g_.K;
  const double least = work * g_.N < kLeastDots ? work * g_.N : kLeastPiece;
  const int64_t pieces =
      std::max(kPiecesOfThread, NumChunks(g_.N * g_.K, kPiece * NumThreads())) * NumThreads();
  // In fours, so that cuts change no bits.
  const int64_t grain =
      RoundUp(std::max(static_cast<int64_t>(least / work), NumChunks(g_.N, pieces)), 4);
  ParallelFor(g_.N, grain, [&](int64_t begin, int64_t end) {
    const Sums sums = SumsOf({0, g_.M}, {begin, end});
    DotArgs args = all;
    args.begin = begin;
    args.end = end;
    args.c = sums.data;
    args.c_row_step = sums.row_step;
    args.c_column_step = sums.column_step;
    args.bias = Bias(0, begin);
    read_b_.dot(args);
    Finish({0, g_.M}, {begin, end}, sums);
  });
}

}  // namespace gemm_internal
}  // namespace residual
