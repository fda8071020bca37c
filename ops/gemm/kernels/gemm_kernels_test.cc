#include "ops/gemm/kernels/gemm_kernels.h"

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tensor/core/tensor.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace gemm_internal {
namespace {

TEST(PanelsTest, CoverEveryRowOnce) {
  for (int64_t total : {0, 1, 5, 6, 7, 12, 13, 97}) {
    for (int64_t width : {1, 4, 6}) {
      for (int64_t wide = 0; wide * (width + 1) <= total && wide < 3; ++wide) {
        const Panels panels{total, width, wide};
        int64_t next = 0;
        for (int64_t p = 0; p < panels.Count(); ++p) {
          EXPECT_EQ(panels.Begin(p), next);
          EXPECT_GE(panels.Width(p), 1);
          EXPECT_LE(panels.Width(p), p < wide ? width + 1 : width);
          next += panels.Width(p);
        }
        EXPECT_EQ(next, total) << total << " rows, " << width << " wide, " << wide << " wider";
      }
    }
  }
}

class GemmKernelsTest : public EachTarget {};
RESIDUAL_EACH_TARGET(GemmKernelsTest);

struct Set {
  DType dtype;
  const GemmKernels& (*kernels)();
  double error;  // of a sum of K products of normal numbers, relative to sqrt(K)
};
constexpr Set kSets[] = {{kF32, KernelsF32, 1e-5},
                         {kF64, KernelsF64, 1e-14},
                         {kBF16, KernelsBF16, 1e-5},
                         {kF16, KernelsF16, 1e-5}};

// Packs whole operands, multiplies tile by tile, and compares with the sum as it is written.
TEST_P(GemmKernelsTest, TilesOfPackedPanelsAreTheProduct) {
  for (const Set& set : kSets) {
    const GemmKernels& g = set.kernels();
    for (const int64_t K : {1, 2, 7, 33}) {
      for (const int64_t M : {int64_t{1}, int64_t{g.rows}, 2 * int64_t{g.rows} + 1}) {
        for (const int64_t N : {int64_t{1}, int64_t{g.columns}, 2 * int64_t{g.columns} + 3}) {
          const Tensor a = RandomNormal({M, K}, 1, set.dtype),
                       b = RandomNormal({K, N}, 2, set.dtype);
          const DType wide = set.dtype == kF64 ? kF64 : kF32;
          Tensor c = Tensor::Full({M, N}, -7, wide);
          const int64_t packed_k = (K + g.packed_k - 1) / g.packed_k;
          const auto pack = [&](const Operand& from, int64_t total, int64_t width, int64_t stride,
                                std::vector<char>& to) {
            PackArgs args{};
            args.from = from;
            args.panels = {total, width, 0};
            args.end = args.panels.Count();
            args.k = K;
            args.stride = stride;
            args.panel_step = packed_k * stride;
            to.resize(args.end * args.panel_step * g.packed_bytes + 64);
            args.to = to.data();
            g.own.pack(args);
            return args;
          };
          std::vector<char> rows, columns;
          const PackArgs pa = pack({a.raw_data(), K, 1, M * K}, M, g.rows, g.row_stride, rows);
          const PackArgs pb = pack({b.raw_data(), 1, N, K * N}, N, g.columns, g.columns, columns);
          for (int64_t i = 0; i < pa.end; ++i) {
            for (int64_t j = 0; j < pb.end; ++j) {
              TileArgs tile{};
              tile.k = packed_k;
              tile.a = rows.data() + i * pa.panel_step * g.packed_bytes;
              tile.a_stride = g.row_stride;
              tile.b = columns.data() + j * pb.panel_step * g.packed_bytes;
              tile.b_stride = g.columns;
              tile.c = static_cast<char*>(c.mutable_raw_data()) +
                       (pa.panels.Begin(i) * N + pb.panels.Begin(j)) * SizeOf(wide);
              tile.c_row_step = N;
              tile.c_column_step = 1;
              tile.rows = pa.panels.Width(i);
              tile.columns = pb.panels.Width(j);
              g.tile(tile);
            }
          }
          const std::vector<double> x = a.ToDoubles(), y = b.ToDoubles(), got = c.ToDoubles();
          for (int64_t r = 0; r < M; ++r) {
            for (int64_t n = 0; n < N; ++n) {
              double want = 0;
              for (int64_t k = 0; k < K; ++k) want += x[r * K + k] * y[k * N + n];
              ASSERT_NEAR(got[r * N + n], want, set.error * std::sqrt(K) * 4)
                  << Name(set.dtype) << " " << M << " " << K << " " << N << " at " << r << ", "
                  << n;
            }
          }
        }
      }
    }
  }
}

TEST_P(GemmKernelsTest, DotsOfRowsWithColumns) {
  for (const Set& set : kSets) {
    for (const int64_t K : {1, 8, 65}) {
      const int64_t M = 3, N = 9;
      const Tensor a = RandomNormal({M, K}, 1, set.dtype), b = RandomNormal({N, K}, 2, set.dtype);
      const DType wide = set.dtype == kF64 ? kF64 : kF32;
      Tensor c = Tensor::Zeros({M, N}, wide);
      const Tensor bias = RandomNormal({N}, 3, wide);
      DotArgs args{};
      args.a = a.raw_data();
      args.b = b.raw_data();
      args.rows = M;
      args.k = K;
      args.end = N;
      args.c = c.mutable_raw_data();
      args.c_row_step = N;
      args.c_column_step = 1;
      args.bias = bias.raw_data();
      set.kernels().own.dot(args);
      const std::vector<double> x = a.ToDoubles(), y = b.ToDoubles(), z = bias.ToDoubles();
      const std::vector<double> got = c.ToDoubles();
      for (int64_t r = 0; r < M; ++r) {
        for (int64_t n = 0; n < N; ++n) {
          double want = z[n];
          for (int64_t k = 0; k < K; ++k) want += x[r * K + k] * y[n * K + k];
          ASSERT_NEAR(got[r * N + n], want, set.error * std::sqrt(K) * 4)
              << Name(set.dtype) << " " << K << " at " << r << ", " << n;
        }
      }
    }
  }
}

}  // namespace
}  // namespace gemm_internal
}  // namespace residual
