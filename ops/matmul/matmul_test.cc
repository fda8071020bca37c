#include "ops/matmul/matmul.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "Eigen/Core"
#include "gtest/gtest.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/base/random.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

struct Form {
  bool transpose_a = false, transpose_b = false;
  Activation activation = Activation::kNone;
};

double ActivationInDouble(Activation activation, double x) {
  switch (activation) {
    case Activation::kNone:
      return x;
    case Activation::kRelu:
      return x > 0 ? x : 0;
    case Activation::kGelu:
      return x * (1 + std::erf(x / std::sqrt(2.0))) / 2;
    case Activation::kGeluTanh:
      return x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))) / 2;
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kSigmoid:
      return 1 / (1 + std::exp(-x));
    case Activation::kTanh:
      return std::tanh(x);
    case Activation::kSoftplus:
      return std::log1p(std::exp(x));
  }
  return NAN;
}

Tensor Reference(const Tensor& a, const Tensor& b, const Tensor& bias, const Form& form) {
  const bool ta = form.transpose_a, tb = form.transpose_b;
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
        out[(s * M + m) * N + n] = ActivationInDouble(form.activation, sum);
      }
    }
  }
  return y;
}

Tensor Product(const Tensor& a, const Tensor& b, const Tensor& bias, const Form& form) {
  MatMulOptions options;
  options.transpose_a = form.transpose_a;
  options.transpose_b = form.transpose_b;
  options.bias = bias;
  options.activation = form.activation;
  return MatMul(a, b, options);
}

OpCase Case(const char* name, const Form& form) {
  OpCase op_case(name);
  op_case
      .Run([form](const TensorList& x) {
        return TensorList{Product(x[0], x[1], x.size() > 2 ? x[2] : Tensor(), form)};
      })
      .Reference([form](const TensorList& x) {
        return TensorList{Reference(x[0], x[1], x.size() > 2 ? x[2] : Tensor(), form)};
      })
      .DTypes({kF32, kF64, kBF16, kF16})
      .Ulps(32, 64);
  return op_case;
}

struct Size {
  int64_t M, K, N;
};

OpInput A(const Size& s, const Form& form) {
  return form.transpose_a ? Shape{s.K, s.M} : Shape{s.M, s.K};
}
OpInput B(const Size& s, const Form& form) {
  return form.transpose_b ? Shape{s.N, s.K} : Shape{s.K, s.N};
}

// Every way through the kernels: nothing, one, primes; around a tile (14 or 6 rows; 32, 16 or 8
// columns), around the most rows that are not packed (16) and the least depth of dot products (64);
// few columns; with and without a bias. And batches: each with its b, and one b for all.
OpCase AllSizes(const char* name, bool transpose_a, bool transpose_b) {
  const Form form{transpose_a, transpose_b, Activation::kNone};
  OpCase op_case = Case(name, form);
  for (const Size& s :
       {Size{1, 1, 1},    Size{0, 3, 2},   Size{3, 0, 2},    Size{2, 3, 0},    Size{1, 7, 5},
        Size{1, 33, 130}, Size{2, 16, 64}, Size{3, 17, 67},  Size{4, 5, 31},   Size{5, 3, 2},
        Size{6, 8, 32},   Size{7, 9, 15},  Size{13, 11, 17}, Size{14, 9, 33},  Size{15, 31, 16},
        Size{16, 64, 65}, Size{17, 65, 9}, Size{29, 2, 63},  Size{61, 67, 71}, Size{41, 19, 1},
        Size{40, 70, 3},  Size{37, 5, 4}}) {
    op_case.Row({A(s, form), B(s, form), OpInput(Shape{s.N})});
    if (s.M % 2 == 0) op_case.Row({A(s, form), B(s, form)});
  }
  const Shape batched_a = transpose_a ? Shape{2, 3, 5, 7} : Shape{2, 3, 7, 5};
  const Shape batched_b = transpose_b ? Shape{2, 3, 4, 5} : Shape{2, 3, 5, 4};
  op_case.Row({OpInput(batched_a), OpInput(batched_b)});
  op_case.Row({OpInput(batched_a), B({0, 5, 4}, form), OpInput(Shape{4})});
  op_case.Row({OpInput(Shape{0, 3, 3}), OpInput(Shape{0, 3, 3})});
  return op_case;
}

RESIDUAL_OP_TEST(MatMul, AllSizes("matmul", false, false));
RESIDUAL_OP_TEST(MatMulTransposeA, AllSizes("matmul a^T", true, false));
RESIDUAL_OP_TEST(MatMulTransposeB, AllSizes("matmul b^T", false, true));
RESIDUAL_OP_TEST(MatMulTransposeBoth, AllSizes("matmul a^T b^T", true, true));

// More than one block of every loop, and several tasks.
OpCase Deep(const char* name, bool transpose_a, bool transpose_b) {
  const Form form{transpose_a, transpose_b, Activation::kNone};
  OpCase op_case = Case(name, form);
  op_case.DTypes({kF32, kBF16}).Ulps(64, 256);
  for (const Size& s : {Size{33, 523, 131}, Size{3, 1031, 70}, Size{1, 515, 300}}) {
    op_case.Row({A(s, form), B(s, form), OpInput(Shape{s.N})});
  }
  return op_case;
}
RESIDUAL_OP_TEST(MatMulDeep, Deep("deep matmul", false, false));
RESIDUAL_OP_TEST(MatMulDeepTransposeBoth, Deep("deep matmul a^T b^T", true, true));

OpCase Activated(const char* name, Activation activation) {
  const Form form{false, true, activation};
  OpCase op_case = Case(name, form);
  for (const Size& s :
       {Size{1, 5, 40}, Size{3, 70, 33}, Size{19, 11, 37}, Size{20, 3, 2}, Size{2, 0, 70}}) {
    op_case.Row({A(s, form), B(s, form), OpInput(Shape{s.N})});
  }
  return op_case;
}
RESIDUAL_OP_TEST(MatMulRelu, Activated("matmul relu", Activation::kRelu));
RESIDUAL_OP_TEST(MatMulGelu, Activated("matmul gelu", Activation::kGelu));
RESIDUAL_OP_TEST(MatMulGeluTanh, Activated("matmul gelu_tanh", Activation::kGeluTanh));
RESIDUAL_OP_TEST(MatMulSilu, Activated("matmul silu", Activation::kSilu));
RESIDUAL_OP_TEST(MatMulSigmoid, Activated("matmul sigmoid", Activation::kSigmoid));
RESIDUAL_OP_TEST(MatMulTanh, Activated("matmul tanh", Activation::kTanh));
RESIDUAL_OP_TEST(MatMulSoftplus, Activated("matmul softplus", Activation::kSoftplus));

class MatMulTest : public EachTarget {};
RESIDUAL_EACH_TARGET(MatMulTest);

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// Shapes nobody thought of.
TEST_P(MatMulTest, AgreesWithEigenOnRandomShapes) {
  const Philox random(7, RandomStream("shapes"));
  for (int i = 0; i < 40; ++i) {
    const auto draw = [&](int j, double most) {
      return static_cast<int64_t>(std::exp(random.UniformDouble(4 * i + j) * std::log(most)));
    };
    const int64_t M = draw(0, 150), K = draw(1, 1200), N = draw(2, 300);
    const bool ta = random.Below(4 * i + 3, 2) == 1, tb = random.Below(4 * i + 3, 4) >= 2;
    const Tensor a = RandomNormal(ta ? Shape{K, M} : Shape{M, K}, 2 * i, kF32);
    const Tensor b = RandomNormal(tb ? Shape{N, K} : Shape{K, N}, 2 * i + 1, kF32);
    const auto matrix = [](const Tensor& x, bool transposed) -> Matrix {
      const Tensor wide = ConvertTo(x, kF64);
      const Eigen::Map<const Matrix> map(wide.data<double>(), x.dim(0), x.dim(1));
      return transposed ? Matrix(map.transpose()) : Matrix(map);
    };
    const Matrix want = matrix(a, ta) * matrix(b, tb);
    const Tensor expected =
        Tensor::Of<double>({M, N}, absl::Span<const double>(want.data(), want.size()));
    const std::string what = a.ToString() + b.ToString() + (ta ? " a^T" : "") + (tb ? " b^T" : "");
    ExpectClose(Product(a, b, Tensor(), {ta, tb, Activation::kNone}), expected, 32, what);
    ExpectClose(
        Product(ConvertTo(a, kF64), ConvertTo(b, kF64), Tensor(), {ta, tb, Activation::kNone}),
        expected, 32, what);
  }
}

// Where in a product an element lies does not change it: what batching prompts relies on.
TEST_P(MatMulTest, RowsAreIndependentOfTheirNumber) {
  const Tensor a = RandomNormal({77, 700}, 1, kF32), b = RandomNormal({700, 90}, 2, kF32);
  const Tensor all = MatMul(a, b);
  ExpectIdentical(MatMul(a.Rows(20, 60), b), all.Rows(20, 60), "rows 20 to 60");
}

Tensor Doubles(const Tensor& x) { return ConvertTo(x, kF64); }
Tensor Rounded(const Tensor& x) { return Doubles(ConvertTo(x, kBF16)); }

// y, da, db and dbias of relu(op(a) op(b) + bias) against the formula in double, on values as they
// are after rounding to bf16: within the error of f32 sums where the result is f32.
void CheckMixed(const Size& s, const Form& form, DType a_type, DType b_type, DType result) {
  const bool ta = form.transpose_a, tb = form.transpose_b;
  Tensor a = RandomNormal(ta ? Shape{s.K, s.M} : Shape{s.M, s.K}, 1, a_type);
  Tensor b = RandomNormal(tb ? Shape{s.N, s.K} : Shape{s.K, s.N}, 2, b_type);
  Tensor bias = RandomNormal({s.N}, 3, kF32);
  const std::string what = a.ToString() + (ta ? "^T" : "") + b.ToString() +
                           (tb ? "^T to " : " to ") + std::string(Name(result));
  MatMulOptions options;
  options.transpose_a = ta;
  options.transpose_b = tb;
  options.activation = form.activation;
  options.bf16_products = true;
  options.result = result;
  Tape tape;
  tape.Watch(a);
  tape.Watch(b);
  tape.Watch(bias);
  options.bias = bias;
  const Tensor y = MatMul(a, b, options);
  ASSERT_EQ(y.dtype(), result) << what;
  ExpectClose(y, Reference(Rounded(a), Rounded(b), Doubles(bias), form), 32, what);

  const Tensor dy = RandomNormal(y.shape(), 4, result);
  const Gradients gradients = tape.Backward({y}, {dy}, {});
  // Through the relu, exactly.
  std::vector<double> g = dy.ToDoubles();
  const std::vector<double> values = y.ToDoubles();
  for (size_t i = 0; i < g.size(); ++i) g[i] = values[i] > 0 ? g[i] : 0;
  const Tensor wide = Tensor::Of<double>({s.M, s.N}, g);
  const Tensor narrow = Rounded(wide);
  const Tensor want_da = ta ? Reference(Rounded(b), narrow, Tensor(), {tb, true})
                            : Reference(narrow, Rounded(b), Tensor(), {false, !tb});
  const Tensor want_db = tb ? Reference(narrow, Rounded(a), Tensor(), {true, ta})
                            : Reference(Rounded(a), narrow, Tensor(), {!ta, false});
  const Tensor ones = Tensor::Full({1, s.M}, 1, kF64);
  const Tensor want_dbias = Reference(ones, wide, Tensor(), {}).Reshaped({s.N});
  ASSERT_EQ(gradients[a].dtype(), a_type) << what;
  ASSERT_EQ(gradients[b].dtype(), b_type) << what;
  ASSERT_EQ(gradients[bias].dtype(), kF32) << what;
  ExpectClose(gradients[a], want_da, 32, "da of " + what);
  ExpectClose(gradients[b], want_db, 32, "db of " + what);
  ExpectClose(gradients[bias], want_dbias, 32, "dbias of " + what);
}

TEST_P(MatMulTest, MultipliesInBF16WhatIsStoredInF32) {
  for (const Size& s : {Size{1, 1, 1}, Size{2, 3, 7}, Size{3, 70, 33}, Size{16, 64, 65},
                        Size{1, 130, 40}, Size{61, 67, 71}, Size{33, 523, 131}}) {
    for (bool ta : {false, true}) {
      for (bool tb : {false, true}) {
        for (DType result : {kF32, kBF16}) {
          CheckMixed(s, {ta, tb, Activation::kRelu}, kF32, kF32, result);
          CheckMixed(s, {ta, tb, Activation::kRelu}, kBF16, kF32, result);
          CheckMixed(s, {ta, tb, Activation::kRelu}, kF32, kBF16, result);
        }
      }
    }
  }
}

// A batch is so many products one by one, and leading axes against one b are more rows.
TEST_P(MatMulTest, MultipliesBatchesInBF16) {
  MatMulOptions options;
  options.bf16_products = true;
  const Tensor a = RandomNormal({3, 19, 37}, 1, kF32), b = RandomNormal({3, 37, 21}, 2, kF32);
  const Tensor each = MatMul(a, b, options), shared = MatMul(a, b.Row(0), options);
  for (int64_t i = 0; i < 3; ++i) {
    ExpectIdentical(each.Row(i), MatMul(a.Row(i), b.Row(i), options), "own b");
    ExpectIdentical(shared.Row(i), MatMul(a.Row(i), b.Row(0), options), "one b");
  }
}

// Of one a, with and without biases, from a batch; results and gradients have the bits of products
// one by one. One of the results is not used.
TEST_P(MatMulTest, ProductsOfOneAHaveTheBitsOfEach) {
  struct Case {
    DType dtype;
    bool bf16_products;
    DType result;
  };
  for (const Case& c : {Case{kF32, false, kF32}, Case{kF64, false, kF64}, Case{kBF16, false, kBF16},
                        Case{kF32, true, kF32}, Case{kF32, true, kBF16}}) {
    for (const Size& s : {Size{1, 3, 2}, Size{3, 20, 33}, Size{40, 70, 33}, Size{61, 530, 40}}) {
      for (const bool biased : {false, true}) {
        MatMulOptions options;
        options.bf16_products = c.bf16_products;
        if (c.bf16_products) options.result = c.result;
        Tensor a = RandomNormal({2, s.M, s.K}, 1, c.dtype);
        std::vector<Tensor> b, biases;
        for (const int64_t columns : {s.N, s.N + 5, int64_t{1}, s.N}) {
          b.push_back(RandomNormal({s.K, columns}, 2 + b.size(), c.dtype));
          if (biased) biases.push_back(RandomNormal({columns}, 9 + b.size(), c.dtype));
        }
        std::vector<Tensor> ys[2], grads[2];
        for (const bool each : {false, true}) {
          Tape tape;
          tape.Watch(a);
          for (Tensor& x : b) tape.Watch(x);
          for (Tensor& x : biases) tape.Watch(x);
          if (each) {
            ys[each] = MatMulEach(a, b, biases, options);
          } else {
            for (size_t i = 0; i < b.size(); ++i) {
              MatMulOptions own = options;
              if (biased) own.bias = biases[i];
              ys[each].push_back(MatMul(a, b[i], own));
            }
          }
          const std::vector<Tensor>& y = ys[each];
          const Gradients found = tape.Backward(
              {y[0], y[1], y[3]},
              {RandomNormal(y[0].shape(), 20, c.result), RandomNormal(y[1].shape(), 21, c.result),
               RandomNormal(y[3].shape(), 22, c.result)},
              {});
          grads[each].push_back(found[a]);
          for (const Tensor& x : b) grads[each].push_back(found[x]);
          for (const Tensor& x : biases) grads[each].push_back(found[x]);
        }
        const std::string what = a.ToString() + " to " + std::string(Name(c.result));
        for (size_t i = 0; i < b.size(); ++i) ExpectIdentical(ys[1][i], ys[0][i], what);
        for (size_t i = 0; i < grads[0].size(); ++i) {
          ExpectIdentical(grads[1][i], grads[0][i], "gradient of " + what);
        }
      }
    }
  }
}

TEST_P(MatMulTest, InfinitiesAndNanPropagate) {
  const double infinity = INFINITY;
  for (DType dtype : {kF32, kF64, kBF16, kF16}) {
    for (int64_t M : {1, 20}) {
      Tensor a = Tensor::Full({M, 40}, 1, dtype), b = Tensor::Full({40, 30}, 1, dtype);
      std::vector<double> values = b.ToDoubles();
      values[3 * 30 + 5] = NAN;
      values[7 * 30 + 6] = infinity;
      values[7 * 30 + 29] = -infinity;
      values[8 * 30 + 29] = infinity;
      b = ConvertTo(Tensor::Of<double>({40, 30}, values), dtype);
      const std::vector<double> y = MatMul(a, b).ToDoubles();
      for (int64_t j = 0; j < 30; ++j) {
        const double got = y[(M - 1) * 30 + j];
        if (j == 5 || j == 29) {
          EXPECT_TRUE(std::isnan(got)) << j;
        } else {
          EXPECT_EQ(got, j == 6 ? infinity : 40) << j;
        }
      }
    }
  }
}

// An activation whose gradient needs the pre-activation costs its memory only on a tape.
TEST_P(MatMulTest, SavesThePreActivationOnlyForAGradient) {
  const Tensor a = RandomNormal({64, 32}, 1, kF32), b = RandomNormal({32, 64}, 2, kF32);
  const int64_t before = HostPoolStats().bytes_in_use;
  const auto used = [&](Activation activation, bool recorded) {
    Tensor x = a;
    Tape tape;
    if (recorded) tape.Watch(x);
    const Tensor y = Product(x, b, Tensor(), {false, false, activation});
    return HostPoolStats().bytes_in_use - before;
  };
  const int64_t one = static_cast<int64_t>(Tensor::Zeros({64, 64}).bytes());
  EXPECT_EQ(used(Activation::kGelu, false), one);
  EXPECT_EQ(used(Activation::kGelu, true), 2 * one);
  EXPECT_EQ(used(Activation::kTanh, true), one);
}

TEST(MatMulDeathTest, ErrorsPrintOpAndShapes) {
  const Tensor a = Tensor::Zeros({2, 3}), b = Tensor::Zeros({4, 5});
  EXPECT_DEATH(MatMul(a, b), "matmul: check failed.*f32\\[2, 3\\] f32\\[4, 5\\]");
  EXPECT_DEATH(MatMul(a, Tensor::Zeros({3, 5}, kF64)), "matmul: check failed.*f64\\[3, 5\\]");
  EXPECT_DEATH(MatMul(Tensor::Zeros({3}), b), "matmul: check failed.*f32\\[3\\]");
  EXPECT_DEATH(MatMul(Tensor::Zeros({2, 3}, kI32), Tensor::Zeros({3, 2}, kI32)),
               "matmul: check failed.*i32\\[2, 3\\]");
  EXPECT_DEATH(MatMul(Tensor::Zeros({2, 2, 3}), Tensor::Zeros({3, 3, 4})),
               "matmul: check failed.*f32\\[2, 2, 3\\] f32\\[3, 3, 4\\]");
  MatMulOptions options;
  options.bias = Tensor::Zeros({4});
  EXPECT_DEATH(MatMul(a, Tensor::Zeros({3, 5}), options), "matmul: check failed.*f32\\[4\\]");
  MatMulOptions mixed;
  mixed.bf16_products = true;
  EXPECT_DEATH(MatMul(a, Tensor::Zeros({3, 5}, kF64), mixed),
               "matmul: check failed.*f64\\[3, 5\\]");
  mixed.bf16_products = false;
  mixed.result = kBF16;
  EXPECT_DEATH(MatMul(a, Tensor::Zeros({3, 5}), mixed), "matmul: check failed.*f32\\[3, 5\\]");
}

}  // namespace
}  // namespace residual
