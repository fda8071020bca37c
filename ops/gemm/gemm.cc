#include "ops/gemm/gemm.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "ops/elementwise/elementwise_kernels.h"
#include "ops/gemm/gemm_memory.h"
#include "ops/gemm/gemm_tiny.h"
#include "ops/gemm/kernels/gemm_kernels.h"
#include "ops/simd/convert.h"
#include "tensor/base/check.h"
#include "tensor/base/parallel.h"
#include "tensor/core/storage.h"
#include "tensor/core/tensor.h"

namespace residual {
namespace {

using gemm_internal::CopyTransposed;
using gemm_internal::DotArgs;
using gemm_internal::GemmKernels;
using gemm_internal::Operand;
using gemm_internal::PackArgs;
using gemm_internal::Panels;
using gemm_internal::Readers;
using gemm_internal::RowArgs;
using gemm_internal::RunTiny;
using gemm_internal::Scratch;
using gemm_internal::TileArgs;

// Of a part of k at most. Deep, so that sums are read and written seldom.
constexpr int64_t kDepth = 512;
// Rows are packed kPackedBytes at once, and kDepthAtOnce of k.
constexpr int64_t kPackedBytes = int64_t{8} << 20;
constexpr int64_t kDepthAtOnce = 4096;
// Panels of columns of a task: 128 columns x 512 are a quarter of a 1 MiB cache. With 8, the same
// for f32, 2 to 3 % less for bf16 of 512.
constexpr int64_t kTaskPanels = 4;
// Multiplications of a region: some 5 us at least, 0.15 s at most, so that threads end at about the
// same time.
constexpr double kLeastWork = 1 << 19, kMostWork = static_cast<double>(int64_t{1} << 33);
// Where packing costs more than it saves: f32 of [128, 768] [768, 512] with a transposed, 90 % of
// the peak with both packed, 92 with b and 95 with a; [128, 768] [768, 128], 86, 90 and 94.
constexpr int64_t kMostColumnsAsALies = 512, kMostRowsAsBLies = 256;
// Columns of a task of few rows, or of one, and multiplications it is worth a thread for.
constexpr int64_t kStreamed = 2048, kStreamedForOne = 4096;
constexpr double kLeastStreamed = 1 << 17;
constexpr int64_t kPiecesOfThread = 4;  // of dot products
// Which way pays where.
constexpr int64_t kMostFewRows = 16, kMostDotRows = 16, kLeastDotDepth = 64;

int64_t RoundUp(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// The size of equal parts of n, of `most` at most, in units.
int64_t EqualParts(int64_t n, int64_t most, int64_t unit) {
  return RoundUp(NumChunks(n, NumChunks(n, most)), unit);
}

const GemmKernels& KernelsFor(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return gemm_internal::KernelsF64();
    case DType::kBF16:
      return gemm_internal::KernelsBF16();
    case DType::kF16:
      return gemm_internal::KernelsF16();
    default:
      return gemm_internal::KernelsF32();
  }
}

char* Data(const StorageRef& storage) { return static_cast<char*>(storage->data()); }

void Apply(Activation activation, DType dtype, const void* from, void* to, int64_t n) {
  const UnaryOp op = UnaryOpOf(activation);
  if (dtype == kF64) {
    UnaryCpu(op, static_cast<const double*>(from), static_cast<double*>(to), n);
  } else {
    UnaryCpu(op, static_cast<const float*>(from), static_cast<float*>(to), n);
  }
}

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
        read_b_(args.narrow_b == kBF16  ? gemm_internal::WidenedBF16()
                : args.narrow_b == kF16 ? gemm_internal::WidenedF16()
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

PackArgs Product::Packing(const Operand& from, int64_t size, int64_t x, int64_t k,
                          const Panels& panels, void* to, int64_t stride, int64_t panel_step) {
  const int64_t offset = x * from.x_step + k * from.k_step;
  PackArgs args;
  args.from = from;
  args.from.data = static_cast<const char*>(from.data) + offset * size;
  args.from.elements -= offset;
  args.panels = panels;
  args.begin = 0;
  args.end = panels.Count();
  args.k0 = 0;
  args.to = to;
  args.stride = stride;
  args.panel_step = panel_step;
  return args;
}

// In the result itself, if that is wide enough.
Product::Sums Product::SumsOf(Range m, Range n) const {
  if (Narrow()) {
    StorageRef scratch = AllocateHost(m.size() * n.size() * sum_size_);
    return {Data(scratch), n.size(), 1, scratch};
  }
  char* c = static_cast<char*>(g_.pre != nullptr ? g_.pre : g_.c);
  const int64_t row_step = g_.transposed_c ? 1 : g_.N, column_step = g_.transposed_c ? g_.M : 1;
  return {c + (m.begin * row_step + n.begin * column_step) * c_size_, row_step, column_step,
          StorageRef()};
}

// In the manner of Goto and van de Geijn (2008) and BLIS, but that threads share nothing they
// write:
//
//   for each region of the result, one or a few for each thread:            (parallel)
//     for each block of its rows and of k that fits the last cache when packed:
//       for each task, some panels of columns, and each part of k:
//         the columns are packed, into a buffer in the core's own cache
//         for each panel of rows (packed when the first task meets it):  for each of columns:
//           c[tile] += a[panel] b[panel], in registers
//       the task's part of c: activation, rounding
//
// k is cut at places that depend on K alone, so an element is the same sum for any number of
// threads, and wherever it lies in the result.
//
// Rows packed once, by all threads, for tasks that all threads took: as fast where two cores share
// a cache, 13 % less in f32 of 1024 where they do not, and 10 to 30 % less in products of 768 x 128
// x 128, for the second join. Regions of a power of two columns instead of rows: 3 % less, packing
// the rows twice.
void Product::Blocked(absl::Span<const Product> others) const {
  absl::InlinedVector<const Product*, 4> products = {this};
  for (const Product& other : others) products.push_back(&other);
  int64_t columns = 0;
  for (const Product* p : products) columns += p->g_.N;
  const Grid grid = GridOf(columns);
  ParallelFor(grid.down * grid.across, 1, [&](int64_t i, int64_t) {
    const int64_t row = i / grid.across, column = i % grid.across;
    Region(products, {g_.M * row / grid.down, g_.M * (row + 1) / grid.down}, column, grid.across);
  });
}

// As many regions as are wanted or more, in the way that packs least. What lies with k together is
// transposed on the way, and counts twice.
Product::Grid Product::GridOf(int64_t columns) const {
  const double work = static_cast<double>(g_.M) * g_.K * columns;
  const int64_t threads = NumThreads();
  const int64_t of_thread = threads == 1 ? 1 : 1 + static_cast<int64_t>(work / threads / kMostWork);
  const int64_t wanted = std::min(threads * of_thread, 1 + static_cast<int64_t>(work / kLeastWork));
  const int64_t most_down = NumChunks(g_.M, kernels_.rows);
  const int64_t most_across = NumChunks(g_.N, kernels_.columns);
  const int64_t rows = g_.M * (a_.x_step == 1 ? 1 : 2), all = columns * (b_.x_step == 1 ? 1 : 2);
  Grid best = {most_down, most_across};
  int64_t least = std::numeric_limits<int64_t>::max();
  for (int64_t down = std::min(wanted, most_down); down > 0; --down) {
    const int64_t across = std::min(NumChunks(wanted, down), most_across);
    const int64_t packed = across * rows + down * all;
    if (down * across >= wanted && packed < least) {
      best = {down, across};
      least = packed;
    }
  }
  return best;
}

// Rows m and the part `column` of `across` of the columns of each of the products of this a.
void Product::Region(absl::Span<const Product* const> products, Range m, int64_t column,
                     int64_t across) const {
  const int64_t k_at_once = std::min(g_.K, kDepthAtOnce / depth_ * depth_);
  const int64_t row_bytes = k_at_once * kernels_.packed_bytes / kernels_.packed_k;
  const int64_t m_at_once = EqualParts(
      m.size(), std::max<int64_t>(kernels_.rows, kPackedBytes / row_bytes), kernels_.rows);
  const int64_t panels = NumChunks(std::min(m_at_once, m.size()), kernels_.rows);
  const int64_t a_bytes =
      RoundUp(NumChunks(k_at_once, depth_) * panels * a_step_ * kernels_.packed_bytes, 64);
  const int64_t b_bytes = kTaskPanels * b_step_ * kernels_.packed_bytes;
  char* const scratch = Scratch(a_bytes + b_bytes);
  absl::InlinedVector<StorageRef, 4> sums(products.size());
  Block block;
  block.a = scratch;
  int64_t columns = 0;
  for (const Product* p : products) columns += NumChunks(p->g_.N, across);
  block.as_a_lies = AsItLies(a_, a_size_) && columns <= kMostColumnsAsALies;
  for (int64_t row = m.begin; row < m.end; row += m_at_once) {
    block.m = {row, std::min(m.end, row + m_at_once)};
    const int64_t count = NumChunks(block.m.size(), kernels_.rows);
    block.rows = {block.m.size(), block.m.size() / count, block.m.size() % count};
    for (int64_t k = 0; k < g_.K; k += k_at_once) {
      block.k = {k, std::min(g_.K, k + k_at_once)};
      block.packed = false;
      for (size_t i = 0; i < products.size(); ++i) {
        const Product& p = *products[i];
        const int64_t column_panels = NumChunks(p.g_.N, kernels_.columns);
        const Range some = {column_panels * column / across, column_panels * (column + 1) / across};
        if (some.size() == 0) continue;
        block.n = {some.begin * kernels_.columns, std::min(p.g_.N, some.end * kernels_.columns)};
        if (p.Narrow() && g_.K > k_at_once && !sums[i]) {
          sums[i] = AllocateHost(m_at_once * block.n.size() * p.sum_size_);
        }
        block.sums = sums[i] ? Data(sums[i]) : nullptr;
        const int64_t tasks = NumChunks(some.size(), kTaskPanels);
        for (int64_t task = 0; task < tasks; ++task) {
          const int64_t begin = some.begin + some.size() * task / tasks;
          const int64_t end = some.begin + some.size() * (task + 1) / tasks;
          p.Task(block, {begin * kernels_.columns, std::min(p.g_.N, end * kernels_.columns)},
                 scratch + a_bytes);
          block.packed = true;
        }
      }
    }
  }
}

// Panels of rows, from `panel` on, of a part of k. Rows that lie side by side are packed several
// panels at once, see PackRuns.
void Product::PackRows(const Block& block, int64_t panel, int64_t part) const {
  const int64_t at_once = a_.x_step == 1 ? 4 : 1;
  if (panel % at_once != 0) return;
  PackArgs args =
      PackingA(block.m.begin, block.k.begin, block.rows, nullptr, kernels_.row_stride, a_step_);
  args.begin = panel;
  args.end = std::min(block.rows.Count(), panel + at_once);
  args.k0 = part * depth_;
  args.k = std::min(depth_, block.k.size() - args.k0);
  args.to = block.Panel(*this, panel, part);
  read_a_.pack(args);
}

void Product::Task(const Block& block, Range n, char* packed_b) const {
  const Range m = block.m;
  const Panels columns{n.size(), kernels_.columns, 0};
  Sums sums;
  if (block.sums != nullptr) {
    sums = {block.sums + (n.begin - block.n.begin) * sum_size_, block.n.size(), 1, StorageRef()};
  } else {
    sums = SumsOf(m, n);
  }
  PackArgs pack = PackingB(n.begin, block.k.begin, columns, packed_b, kernels_.columns, b_step_);
  TileArgs tile;
  const bool as_b_lies = AsItLies(b_, b_size_) && m.size() <= kMostRowsAsBLies &&
                         n.size() % kernels_.columns == 0;  // not read past its end
  tile.a_stride = block.as_a_lies ? a_.k_step : kernels_.row_stride;
  tile.b_stride = as_b_lies ? b_.k_step : kernels_.columns;
  tile.c_row_step = sums.row_step;
  tile.c_column_step = sums.column_step;
  tile.bias_of_rows = g_.transposed_c;
  for (int64_t k = 0, part = 0; k < block.k.size(); k += depth_, ++part) {
    pack.k0 = k;
    pack.k = std::min(depth_, block.k.size() - k);
    if (!as_b_lies) read_b_.pack(pack);
    tile.k = Packed(pack.k);
    tile.add = block.k.begin + k > 0;
    for (int64_t i = 0; i < block.rows.Count(); ++i) {
      const int64_t row = block.rows.Begin(i);
      if (!block.packed && !block.as_a_lies) PackRows(block, i, part);
      tile.a = block.as_a_lies ? At(a_, a_size_, m.begin + row, block.k.begin + k)
                               : block.Panel(*this, i, part);
      tile.rows = block.rows.Width(i);
      for (int64_t j = 0; j < pack.end; ++j) {
        tile.b = as_b_lies ? At(b_, b_size_, n.begin + columns.Begin(j), block.k.begin + k)
                           : packed_b + j * b_step_ * kernels_.packed_bytes;
        tile.columns = columns.Width(j);
        tile.c =
            sums.data + (row * sums.row_step + columns.Begin(j) * sums.column_step) * sum_size_;
        tile.bias = Bias(m.begin + row, n.begin + columns.Begin(j));
        kernels_.tile(tile);
      }
    }
  }
  if (block.k.end == g_.K) Finish(m, n, sums);
}

// One row of f32 against rows of columns: k is cut into tasks, each of which reads one piece of b
// from end to end, and their sums are added in order. How many depends on the sizes alone.
void Product::OneRow() const {
  const int64_t work = g_.K * g_.N;
  const int64_t parts = work < kLeastStreamed ? 1 : std::clamp<int64_t>(work >> 20, 1, 8) * 2;
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
    gemm_internal::SumRows(g_.narrow_b, args);
  });
  const Sums to = SumsOf({0, 1}, {0, g_.N});
  gemm_internal::AddParts(sums, count, g_.N, static_cast<const float*>(g_.bias),
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
  // Long pieces, which memory likes; in fours, so that cuts change no bits.
  const int64_t pieces = NumThreads() == 1 ? 1 : kPiecesOfThread * NumThreads();
  const int64_t grain =
      RoundUp(std::max(static_cast<int64_t>(kLeastStreamed / work), NumChunks(g_.N, pieces)), 4);
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

// Activation and rounding of a part of the result. A transposed one is finished as a whole.
void Product::Finish(Range m, Range n, const Sums& sums) const {
  if (g_.transposed_c || (!Narrow() && g_.activation == Activation::kNone)) return;
  for (int64_t r = m.begin; r < m.end; ++r) {
    char* from = sums.data + (r - m.begin) * sums.row_step * sum_size_;
    const float* sums_row = reinterpret_cast<const float*>(from);
    const int64_t offset = (r * g_.N + n.begin) * c_size_;
    void* to = static_cast<char*>(g_.c) + offset;
    if (Narrow() && g_.pre != nullptr) {
      Round(g_.dtype, sums_row, static_cast<char*>(g_.pre) + offset, n.size());
    }
    if (g_.activation != Activation::kNone) {
      Apply(g_.activation, g_.dtype, from, Narrow() ? from : to, n.size());
    }
    if (Narrow()) Round(g_.dtype, sums_row, to, n.size());
  }
}

// The same product as c^T = op(b)^T op(a)^T.
GemmArgs Transposed(const GemmArgs& g) {
  GemmArgs t = g;
  std::swap(t.a, t.b);
  std::swap(t.M, t.N);
  t.transpose_a = !g.transpose_b;
  t.transpose_b = !g.transpose_a;
  t.transposed_c = true;
  return t;
}

// The ways to make a product.
enum class Way { kNothing, kTiny, kTransposed, kDots, kOneRow, kFewRows, kBlocked };

Way WayOfMatrices(const GemmArgs& g) {
  if (g.transpose_b && g.M <= kMostDotRows && g.K >= kLeastDotDepth) return Way::kDots;
  const bool one = g.M == 1 && g.dtype == kF32 && g.K > 0 && !g.transposed_c;
  if (!g.transpose_b && one) return Way::kOneRow;
  if (!g.transpose_b && g.M <= kMostFewRows) return Way::kFewRows;
  return Way::kBlocked;
}

Way WayOf(const GemmArgs& g, const GemmKernels& kernels) {
  RESIDUAL_CHECK(g.dtype == kBF16 || !(g.f32_a || g.f32_b || g.f32_c)) << Name(g.dtype);
  RESIDUAL_CHECK(g.dtype == kF32 || g.narrow_b == kF32) << Name(g.dtype);
  if (g.M == 0 || g.N == 0) return Way::kNothing;
  if (static_cast<double>(g.M) * g.N * g.K <= gemm_internal::kTiny) return Way::kTiny;
  const bool narrow = g.dtype == kBF16 || g.dtype == kF16 || g.narrow_b != kF32;
  // A vector holds columns; where there are fewer than fill one, it holds rows.
  if (g.N <= kernels.row_stride / 2 && g.M > g.N && !narrow) return Way::kTransposed;
  return WayOfMatrices(g);
}

void Run(const GemmArgs& g, const GemmKernels& kernels, Way way) {
  const Product product(g, kernels);
  if (way == Way::kDots) {
    product.Dots();
  } else if (way == Way::kOneRow) {
    product.OneRow();
  } else if (way == Way::kFewRows) {
    product.FewRows();
  } else {
    product.Blocked();
  }
}

}  // namespace

void Gemm(const GemmArgs& g) {
  const GemmKernels& kernels = KernelsFor(g.dtype);
  const Way way = WayOf(g, kernels);
  if (way == Way::kNothing) return;
  if (way == Way::kTiny) return RunTiny(g);
  if (way != Way::kTransposed) return Run(g, kernels, way);
  const GemmArgs transposed = Transposed(g);
  Run(transposed, kernels, WayOfMatrices(transposed));
  if (g.activation == Activation::kNone) return;
  ParallelFor(g.M, 1 << 12, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * g.N * SizeOf(g.dtype);
    Apply(g.activation, g.dtype, static_cast<char*>(g.pre != nullptr ? g.pre : g.c) + first,
          static_cast<char*>(g.c) + first, (end - begin) * g.N);
  });
}

void GemmOfSameA(absl::Span<const GemmArgs> products) {
  if (products.empty()) return;
  const GemmArgs& first = products[0];
  const GemmKernels& kernels = KernelsFor(first.dtype);
  std::vector<Product> blocked;
  for (const GemmArgs& g : products) {
    RESIDUAL_CHECK(g.a == first.a && g.M == first.M && g.K == first.K && g.dtype == first.dtype &&
                   g.transpose_a == first.transpose_a && g.f32_a == first.f32_a)
        << "products of one a";
    if (WayOf(g, kernels) == Way::kBlocked) {
      blocked.emplace_back(g, kernels);
    } else {
      Gemm(g);
    }
  }
  if (!blocked.empty()) blocked[0].Blocked(absl::MakeConstSpan(blocked).subspan(1));
}

}  // namespace residual
