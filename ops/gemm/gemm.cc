#include "ops/gemm/gemm.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "ops/elementwise/elementwise_kernels.h"
#include "ops/gemm/gemm_memory.h"
#include "ops/gemm/gemm_product.h"
#include "ops/gemm/gemm_tiny.h"
#include "ops/gemm/kernels/gemm_kernels.h"
#include "ops/simd/convert.h"
#include "tensor/base/check.h"
#include "tensor/base/parallel.h"
#include "tensor/core/storage.h"
#include "tensor/core/tensor.h"

namespace residual {
namespace gemm_internal {
namespace {

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
// Which way pays where.
constexpr int64_t kMostFewRows = 16, kMostDotRows = 16, kLeastDotDepth = 64;
// Dot products of less depth, which the sums of lanes are a large part of. f32, N = 1536, K = 48:
// 1 row 3.3 us and 8.9 packed, 4 rows 6.3 and 11.2, 8 rows 11.2 and 8.6; N = 256: 4 rows 1.7 and
// 2.0, 6 rows 2.5 and 2.4.
constexpr int64_t kMostShallowDotRows = 4, kLeastShallowDotDepth = 32;

const GemmKernels& KernelsFor(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return KernelsF64();
    case DType::kBF16:
      return KernelsBF16();
    case DType::kF16:
      return KernelsF16();
    default:
      return KernelsF32();
  }
}

void Apply(Activation activation, DType dtype, const void* from, void* to, int64_t n) {
  const UnaryOp op = UnaryOpOf(activation);
  if (dtype == kF64) {
    UnaryCpu(op, static_cast<const double*>(from), static_cast<double*>(to), n);
  } else {
    UnaryCpu(op, static_cast<const float*>(from), static_cast<float*>(to), n);
  }
}

}  // namespace

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

namespace {

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
  const bool deep = g.M <= kMostDotRows && g.K >= kLeastDotDepth;
  const bool shallow = g.M <= kMostShallowDotRows && g.K >= kLeastShallowDotDepth;
  if (g.transpose_b && (deep || shallow)) return Way::kDots;
  const bool one = g.M == 1 && g.dtype == kF32 && g.K > 0 && !g.transposed_c;
  if (!g.transpose_b && one) return Way::kOneRow;
  if (!g.transpose_b && g.M <= kMostFewRows) return Way::kFewRows;
  return Way::kBlocked;
}

Way WayOf(const GemmArgs& g, const GemmKernels& kernels) {
  RESIDUAL_CHECK(g.dtype == kBF16 || !(g.f32_a || g.f32_b || g.f32_c)) << Name(g.dtype);
  RESIDUAL_CHECK(g.dtype == kF32 || g.narrow_b == kF32) << Name(g.dtype);
  if (g.M == 0 || g.N == 0) return Way::kNothing;
  if (static_cast<double>(g.M) * g.N * g.K <= kTiny) return Way::kTiny;
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
}  // namespace gemm_internal

using gemm_internal::Apply;
using gemm_internal::GemmKernels;
using gemm_internal::KernelsFor;
using gemm_internal::Product;
using gemm_internal::Run;
using gemm_internal::RunTiny;
using gemm_internal::Transposed;
using gemm_internal::Way;
using gemm_internal::WayOf;
using gemm_internal::WayOfMatrices;

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
