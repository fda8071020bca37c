#include "ops/matmul/matmul.h"

#include <cmath>

#include "gtest/gtest.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

Tensor Reference(const Tensor& a, const Tensor& b, const Tensor& bias, bool ta, bool tb) {
  const int64_t M = a.dim(ta ? -1 : -2), K = a.dim(ta ? -2 : -1), N = b.dim(tb ? -2 : -1);
  Tensor y = Tensor::Zeros(a.shape().With(-2, M).With(-1, N), kF64);
  const int64_t batch = a.shape().elements(0, a.rank() - 2);
  double* out = y.mutable_data<double>();
  for (int64_t s = 0; s < batch; ++s) {
    const double* pa = a.data<double>() + s * M * K;
    const double* pb = b.data<double>() + (b.rank() == 2 ? 0 : s * K * N);
    for (int64_t m = 0; m < M; ++m) {
      for (int64_t n = 0; n < N; ++n) {
        double sum = bias.defined() ? bias.data<double>()[n] : 0;
        for (int64_t k = 0; k < K; ++k) {
          sum += (ta ? pa[k * M + m] : pa[m * K + k]) * (tb ? pb[n * K + k] : pb[k * N + n]);
        }
        out[(s * M + m) * N + n] = sum;
      }
    }
  }
  return y;
}

OpCase Case(bool ta, bool tb) {
  OpCase op_case(std::string("matmul") + (ta ? " a^T" : "") + (tb ? " b^T" : ""));
  op_case
      .Run([ta, tb](const TensorList& x) {
        MatMulOptions options;
        options.transpose_a = ta;
        options.transpose_b = tb;
        if (x.size() > 2) options.bias = x[2];
        return TensorList{MatMul(x[0], x[1], options)};
      })
      .Reference([ta, tb](const TensorList& x) {
        return TensorList{Reference(x[0], x[1], x.size() > 2 ? x[2] : Tensor(), ta, tb)};
      })
      .DTypes({kF32, kF64, kBF16})
      .Ulps(32, 64);
  auto a = [ta](int64_t M, int64_t K) { return ta ? Shape{K, M} : Shape{M, K}; };
  auto b = [tb](int64_t K, int64_t N) { return tb ? Shape{N, K} : Shape{K, N}; };
  struct Size {
    int64_t M, K, N;
  };
  for (const Size& s :
       {Size{1, 1, 1}, Size{0, 3, 2}, Size{3, 0, 2}, Size{2, 3, 0}, Size{1, 7, 5}, Size{1, 33, 130},
        Size{2, 16, 64}, Size{3, 17, 67}, Size{4, 5, 31}, Size{5, 3, 2}, Size{6, 8, 32},
        Size{13, 11, 17}, Size{14, 9, 33}, Size{15, 31, 16}, Size{61, 67, 71}}) {
    op_case.Row({OpInput(a(s.M, s.K)), OpInput(b(s.K, s.N)), OpInput(Shape{s.N})});
    op_case.Row({OpInput(a(s.M, s.K)), OpInput(b(s.K, s.N))});
  }
  // Batches: each with its b, and one b for all.
  const Shape batched_a = ta ? Shape{2, 3, 5, 7} : Shape{2, 3, 7, 5};
  const Shape batched_b = tb ? Shape{2, 3, 4, 5} : Shape{2, 3, 5, 4};
  op_case.Row({OpInput(batched_a), OpInput(batched_b)});
  op_case.Row({OpInput(batched_a), OpInput(b(5, 4)), OpInput(Shape{4})});
  return op_case;
}

RESIDUAL_OP_TEST(MatMul, Case(false, false));
RESIDUAL_OP_TEST(MatMulTransposeA, Case(true, false));
RESIDUAL_OP_TEST(MatMulTransposeB, Case(false, true));
RESIDUAL_OP_TEST(MatMulTransposeBoth, Case(true, true));

// More than one block of every loop.
RESIDUAL_OP_TEST(MatMulBlocks,
                 OpCase("matmul blocks")
                     .Run([](const TensorList& x) { return TensorList{MatMul(x[0], x[1])}; })
                     .Reference([](const TensorList& x) {
                       return TensorList{Reference(x[0], x[1], Tensor(), false, false)};
                     })
                     .Shapes({{{171, 389}, {389, 77}}, {{19, 40}, {40, 1601}}})
                     .DTypes({kF32, kF64})
                     .Ulps(64, 128));

TEST(MatMulTest, AppliesTheActivation) {
  const Tensor a = RandomNormal({3, 5}, 1, kF32), b = RandomNormal({5, 4}, 2, kF32);
  MatMulOptions options;
  options.activation = Activation::kGeluTanh;
  ExpectClose(MatMul(a, b, options), ConvertTo(GeluTanh(MatMul(a, b)), kF64), 8, "gelu_tanh");
}

TEST(MatMulDeathTest, ShapeErrorsPrintOpAndShapes) {
  const Tensor a = Tensor::Zeros({2, 3}), b = Tensor::Zeros({4, 5});
  EXPECT_DEATH(MatMul(a, b), "matmul: check failed.*f32\\[2, 3\\] f32\\[4, 5\\]");
  EXPECT_DEATH(MatMul(a, Tensor::Zeros({3, 5}, kF64)), "matmul: check failed.*f64\\[3, 5\\]");
}

}  // namespace
}  // namespace residual
