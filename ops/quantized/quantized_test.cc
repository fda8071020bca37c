#include "ops/quantized/quantized.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "ops/elementwise/elementwise.h"
#include "ops/layout/layout.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

QuantizedMatrix Quantized(const Tensor& w, bool transposed) {
  QuantizedMatrix matrix =
      QuantizedMatrix::Uninitialized(w.dim(transposed ? 1 : 0), w.dim(transposed ? 0 : 1));
  EXPECT_TRUE((transposed ? QuantizeColumns(w, 0, matrix) : QuantizeRows(w, 0, matrix)).ok());
  return matrix;
}

class QuantizedTest : public EachTarget {};
RESIDUAL_EACH_TARGET(QuantizedTest);

// Half a scale at most, from either layout and every dtype, in rows whose groups differ in size by
// much; zeros stay zeros, and the largest of a group is exact but for the rounding of its scale.
TEST_P(QuantizedTest, RoundsToTheNearest) {
  for (const DType dtype : {kF32, kBF16, kF16}) {
    for (const bool transposed : {false, true}) {
      const int64_t rows = 70, columns = 150;
      std::vector<double> values = RandomNormal({rows, columns}, 1).ToDoubles();
      for (int64_t i = 0; i < rows * columns; ++i) {
        if (i % columns < 64) values[i] *= i % 3 == 0 ? 0 : 1e-3;
        if (i / columns == 3) values[i] = 0;
      }
      Tensor w = ConvertTo(Tensor::Of<double>({rows, columns}, values), dtype);
      const std::vector<double> want = w.ToDoubles();
      if (transposed) {
        std::vector<double> turned(values.size());
        for (int64_t i = 0; i < rows * columns; ++i) {
          turned[i % columns * rows + i / columns] = want[i];
        }
        w = ConvertTo(Tensor::Of<double>({columns, rows}, turned), dtype);
      }
      const QuantizedMatrix matrix = Quantized(w, transposed);
      ASSERT_EQ(matrix.rows(), rows);
      EXPECT_EQ(matrix.bytes(), rows * (192u + 3 * 4));
      const std::vector<double> got = Dequantize(matrix, 0, rows).ToDoubles();
      const float* scales = matrix.scales.data<float>();
      for (int64_t i = 0; i < rows * columns; ++i) {
        const double scale = scales[i / columns * 3 + i % columns / 64];
        ASSERT_LE(std::abs(got[i] - want[i]), scale * 0.50001) << Name(dtype) << " " << i;
        ASSERT_TRUE(want[i] != 0 || got[i] == 0) << i;
      }
    }
  }
}

// Against doubles of the rounded weights: few and many rows, whole groups and parts of one, with an
// activation and without.
TEST_P(QuantizedTest, MultipliesWhatIsRounded) {
  SetHostGuardBytes(true);
  const int threads = NumThreads();
  for (const int64_t M : {0, 1, 3, 4, 5, 33}) {
    for (const int64_t N : {1, 17, 300}) {
      for (const int64_t K : {1, 63, 64, 65, 200, 768}) {
        const Tensor x = RandomNormal({M, K}, 1, kF32), bias = RandomNormal({N}, 2, kF32);
        const QuantizedMatrix w = Quantized(RandomNormal({N, K}, 3, kF32), false);
        const std::vector<double> a = x.ToDoubles(), b = Dequantize(w, 0, N).ToDoubles();
        Tensor want = Tensor::Uninitialized({M, N}, kF64);
        double* out = want.mutable_data<double>();
        for (int64_t m = 0; m < M; ++m) {
          for (int64_t n = 0; n < N; ++n) {
            double sum = bias.data<float>()[n];
            for (int64_t k = 0; k < K; ++k) sum += a[m * K + k] * b[n * K + k];
            out[m * N + n] = sum;
          }
        }
        const std::string what = absl::StrCat("[", M, ", ", K, "] [", N, ", ", K, "]");
        SetNumThreads(1);
        const Tensor one = QuantizedMatMul(x, w, bias);
        ExpectClose(one, want, 32, what);
        SetNumThreads(3);
        ExpectIdentical(QuantizedMatMul(x, w, bias), one, what);
        ExpectClose(QuantizedMatMul(x, w, bias, Activation::kRelu), Relu(want), 32, what);
      }
    }
  }
  SetNumThreads(threads);
  SetHostGuardBytes(false);
}

TEST_P(QuantizedTest, IsFilledAndReadByRows) {
  const Tensor w = RandomNormal({90, 70}, 1, kF32);
  const QuantizedMatrix whole = Quantized(w, false);
  QuantizedMatrix parts = QuantizedMatrix::Uninitialized(90, 70);
  ASSERT_TRUE(QuantizeRows(w.Rows(0, 31), 0, parts).ok());
  ASSERT_TRUE(QuantizeRows(w.Rows(31, 90), 31, parts).ok());
  const Tensor rows = Dequantize(whole, 0, 90);
  ExpectIdentical(Dequantize(parts, 0, 90), rows, "in two parts");
  const Tensor picked = DequantizeRows(whole, Tensor::Of<int32_t>({2, 1}, {89, 4}));
  EXPECT_EQ(picked.shape(), Shape({2, 1, 70}));
  ExpectIdentical(picked.Row(0).Row(0), rows.Row(89), "row 89");
  ExpectIdentical(picked.Row(1).Row(0), rows.Row(4), "row 4");
  const Tensor x = RandomNormal({2, 3, 70}, 2, kF32);
  EXPECT_EQ(QuantizedMatMul(x, whole).shape(), Shape({2, 3, 90}));
  ExpectIdentical(QuantizedMatMul(x.Row(0).Rows(0, 1), whole.Rows(7, 40)),
                  QuantizedMatMul(x.Row(0).Rows(0, 1), Quantized(w.Rows(7, 40), false)), "part");
}

// Columns give the bits of rows: of whole tiles and parts of one, at once or group by group, by any
// number of threads, with infinite inverses (nothing above 1e-36) among them.
TEST_P(QuantizedTest, ColumnsAreRowsTransposed) {
  SetHostGuardBytes(true);
  const int threads = NumThreads();
  for (const int64_t N : {0, 1, 16, 63, 64, 65, 200}) {
    for (const int64_t K : {1, 63, 64, 65, 128, 257}) {
      for (const DType dtype : {kF32, kBF16, kF16}) {
        std::vector<double> values = RandomNormal({N, K}, 1).ToDoubles();
        for (int64_t i = 0; i < N * K; ++i) {
          if (i / K % 7 == 2) values[i] *= 1e-38;
        }
        const Tensor w = ConvertTo(Tensor::Of<double>({N, K}, values), dtype);
        const QuantizedMatrix want = Quantized(w, false);
        const Tensor turned = Transpose(w, 0, 1);
        for (const int n : {1, 3}) {
          SetNumThreads(n);
          const QuantizedMatrix once = Quantized(turned, true);
          QuantizedMatrix parts = QuantizedMatrix::Uninitialized(N, K);
          for (int64_t k = 0; k < K; k += 64) {
            ASSERT_TRUE(QuantizeColumns(turned.Rows(k, std::min(K, k + 64)), k, parts).ok());
          }
          const std::string what = absl::StrCat(Name(dtype), " ", N, " x ", K);
          ExpectIdentical(once.values, want.values, what);
          ExpectIdentical(once.scales, want.scales, what);
          ExpectIdentical(parts.values, want.values, what);
          ExpectIdentical(parts.scales, want.scales, what);
        }
      }
    }
  }
  SetNumThreads(threads);
  SetHostGuardBytes(false);
}

TEST_P(QuantizedTest, RefusesWhatHasNoScale) {
  for (const float bad :
       {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
        std::numeric_limits<float>::quiet_NaN()}) {
    for (const int64_t at : {0, 37, 129}) {
      Tensor w = Tensor::Full({1, 130}, 1), row = Tensor::Full({130, 1}, 1);
      w.mutable_data<float>()[at] = row.mutable_data<float>()[at] = bad;
      QuantizedMatrix matrix = QuantizedMatrix::Uninitialized(1, 130);
      EXPECT_EQ(QuantizeRows(w, 0, matrix).code(), absl::StatusCode::kInvalidArgument);
      EXPECT_EQ(QuantizeColumns(row, 0, matrix).code(), absl::StatusCode::kInvalidArgument);
    }
  }
}

TEST(QuantizedDeathTest, ErrorsPrintOpAndShapes) {
  QuantizedMatrix narrow = QuantizedMatrix::Uninitialized(3, 70);
  EXPECT_DEATH((void)QuantizeColumns(Tensor::Zeros({60, 3}), 0, narrow),
               "quantize_columns: .*f32\\[60, 3\\]");
  EXPECT_DEATH((void)QuantizeRows(Tensor::Zeros({4, 70}), 0, narrow),
               "quantize_rows: .*f32\\[4, 70\\]");
  const QuantizedMatrix w = Quantized(Tensor::Full({3, 5}, 1), false);
  EXPECT_DEATH(QuantizedMatMul(Tensor::Zeros({2, 4}), w), "quantized_matmul: .*f32\\[2, 4\\]");
  EXPECT_DEATH(QuantizedMatMul(Tensor::Zeros({2, 5}, kBF16), w), "quantized_matmul: .*bf16");
  EXPECT_DEATH(QuantizedMatMul(Tensor::Zeros({2, 5}), w, Tensor::Zeros({5})),
               "quantized_matmul: .*f32\\[5\\]");
  EXPECT_DEATH(DequantizeRows(w, Tensor::Of<int64_t>({1}, {3})), "row 3 of 3");
  Tape tape;
  Tensor x = Tensor::Zeros({2, 5});
  tape.Watch(x);
  EXPECT_DEATH(QuantizedMatMul(x, w), "quantized_matmul: ");
}

}  // namespace
}  // namespace residual
