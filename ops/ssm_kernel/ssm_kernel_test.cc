#include "ops/ssm_kernel/ssm_kernel.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <vector>

#include "gtest/gtest.h"
#include "ops/ssm_kernel/cauchy_kernels.h"
#include "ops/ssm_kernel/diagonal_kernels.h"
#include "ops/ssm_kernel/diagonal_mode.h"
#include "ops/ssm_kernel/dplr_discrete.h"
#include "tensor/autograd/tape.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

using Complex = std::complex<double>;
using Vector = std::vector<Complex>;

// The numbers of channel h of an operand [H, n.., 2] or [n.., 2].
Vector Of(const Tensor& x, int64_t h, int channel_rank) {
  const int64_t size =
      x.elements() / 2 / (x.rank() == channel_rank ? std::max<int64_t>(1, x.dim(0)) : 1);
  const double* from = x.data<double>() + (x.rank() == channel_rank ? 2 * h * size : 0);
  Vector numbers(size);
  for (int64_t i = 0; i < size; ++i) numbers[i] = {from[2 * i], from[2 * i + 1]};
  return numbers;
}

// C A_bar^l B_bar, one power after the other. The last operand has as many elements as K positions.
Tensor DiagonalReference(const TensorList& x, const DiagonalKernelOptions& options) {
  const int64_t H = x[3].elements(), L = x[4].elements();
  Tensor K = Tensor::Zeros({H, L}, kF64);
  double* to = K.mutable_data<double>();
  for (int64_t h = 0; h < H; ++h) {
    const Vector A = Of(x[0], h, 3), B = Of(x[1], h, 3), C = Of(x[2], h, 3);
    const double dt = x[3].data<double>()[h];
    for (size_t n = 0; n < A.size(); ++n) {
      Complex z = std::exp(dt * A[n]), w = (z - 1.0) / A[n] * B[n], sum;
      if (options.discretization == Discretization::kBilinear) {
        z = (1.0 + dt / 2 * A[n]) / (1.0 - dt / 2 * A[n]);
        w = dt / (1.0 - dt / 2 * A[n]) * B[n];
      } else if (options.discretization == Discretization::kDssSoftmax) {
        const bool grows = A[n].real() > 0;
        const Complex largest = grows ? std::exp(dt * A[n] * (L - 1.0)) : 1;
        for (int64_t l = 0; l < L; ++l) sum += std::exp(dt * A[n] * (1.0 * l)) / largest;
        // Softmax over l, over A, with the reciprocal of A times the sum times z - 1 (or 1 / z -
        // 1).
        const Complex less = grows ? 1.0 / z - 1.0 : z - 1.0;
        const Complex under = sum * less * A[n];
        w = std::conj(under) / (std::norm(under) + 1e-7) * less / largest * B[n];
      }
      Complex power = C[n] * w;
      for (int64_t l = 0; l < L; ++l, power *= z) {
        to[h * L + l] += (options.conjugate_pairs ? 2 : 1) * power.real();
      }
    }
  }
  return K;
}

OpCase DiagonalCase(Discretization discretization, bool pairs) {
  DiagonalKernelOptions options;
  options.discretization = discretization;
  options.conjugate_pairs = pairs;
  OpCase op_case("diagonal_ssm_kernel");
  op_case
      .Run([options](const TensorList& x) {
        return TensorList{DiagonalSsmKernel(x[0], x[1], x[2], x[3], x[4].elements(), options)};
      })
      .Reference(
          [options](const TensorList& x) { return TensorList{DiagonalReference(x, options)}; })
      .Ulps(64, 512);
  const auto row = [&](int64_t H, int64_t N, int64_t L, bool shared) {
    const Shape own{H, N, 2}, same = shared ? Shape{N, 2} : own;
    op_case.Row({OpInput(same, OpInput::kUniform, -1, -0.1), OpInput(same), OpInput(own),
                 OpInput({H}, OpInput::kUniform, 0.1, 0.5), OpInput({L}, OpInput::kIndex)});
  };
  row(1, 1, 1, false);
  row(2, 3, 5, true);
  row(3, 1, 2, false);
  row(2, 17, 37, false);
  row(1, 2, 131, true);
  row(2, 3, 0, false);
  row(2, 0, 4, false);
  row(0, 2, 4, true);
  return op_case;
}
RESIDUAL_OP_TEST(DiagonalZohPairs, DiagonalCase(Discretization::kZoh, true));
RESIDUAL_OP_TEST(DiagonalBilinear, DiagonalCase(Discretization::kBilinear, false));
RESIDUAL_OP_TEST(DiagonalDss, DiagonalCase(Discretization::kDssSoftmax, true));

// Modes that grow (Re A > 0) next to ones that decay.
OpCase GrowingDssCase() {
  DiagonalKernelOptions options;
  options.discretization = Discretization::kDssSoftmax;
  OpCase op_case("diagonal_ssm_kernel");
  op_case
      .Run([options](const TensorList& x) {
        return TensorList{DiagonalSsmKernel(x[0], x[1], x[2], x[3], x[4].elements(), options)};
      })
      .Reference(
          [options](const TensorList& x) { return TensorList{DiagonalReference(x, options)}; })
      .Ulps(64, 512);
  op_case.Row({OpInput(Tensor::Of<double>({3, 2}, {-0.5, 0.4, 0.3, 1, 0.8, -0.2})), OpInput({3, 2}),
               OpInput({2, 3, 2}), OpInput({2}, OpInput::kUniform, 0.1, 0.5),
               OpInput({19}, OpInput::kIndex)});
  return op_case;
}
RESIDUAL_OP_TEST(DiagonalDssGrowing, GrowingDssCase());

TEST(DiagonalSsmKernelTest, AGrowingModeUnderTheSoftmaxDoesNotOverflow) {
  DiagonalKernelOptions options;
  options.discretization = Discretization::kDssSoftmax;
  options.conjugate_pairs = false;
  const Tensor one = Tensor::Of<double>({1, 2}, {1, 0});
  const Tensor K = DiagonalSsmKernel(one, one, one, Tensor::Of<double>({1}, {1}), 5000, options);
  // e^l over its sum: 1 - 1/e at the end.
  EXPECT_NEAR(K.data<double>()[4999], 1 - std::exp(-1.0), 1e-6);
  EXPECT_NEAR(K.data<double>()[4998], (1 - std::exp(-1.0)) / std::exp(1.0), 1e-6);
  EXPECT_EQ(K.data<double>()[0], 0);
}

// A = 0: an integrator, (e^x - 1) / x at its limit. A = -2 / dt: the bilinear transform gives 0.
TEST(DiagonalSsmKernelTest, Limits) {
  const auto kernel = [](double a, Discretization discretization) {
    DiagonalKernelOptions options;
    options.discretization = discretization;
    options.conjugate_pairs = false;
    const Tensor one = Tensor::Of<double>({1, 2}, {1, 0});
    Tensor A = Tensor::Of<double>({1, 2}, {a, 0});
    Tape tape;
    tape.Watch(A);
    const Tensor K = DiagonalSsmKernel(A, one, one, Tensor::Of<double>({1}, {0.5}), 3, options);
    const Tensor dK = Tensor::Of<double>({1, 3}, {0, 1, 0});
    const double dA = tape.Backward({K}, {dK}, {}).Find(A).data<double>()[0];
    return std::vector<double>{K.data<double>()[0], K.data<double>()[1], K.data<double>()[2], dA};
  };
  const std::vector<double> still = kernel(0, Discretization::kZoh);
  EXPECT_DOUBLE_EQ(still[0], 0.5);
  EXPECT_DOUBLE_EQ(still[2], 0.5);
  EXPECT_NEAR(still[3], 0.375, 1e-14);  // d/dx of dt e^x (e^x - 1) / x at 0 is 3/2 dt, times dt
  const std::vector<double> gone = kernel(-4, Discretization::kBilinear);
  EXPECT_DOUBLE_EQ(gone[0], 0.25);
  EXPECT_EQ(gone[1], 0);
  EXPECT_EQ(gone[2], 0);
  // K_1 = dt (1 + x/2) / (1 - x/2)^2 with x = A dt = -2: dt/2 / 4, times dt.
  EXPECT_NEAR(gone[3], 0.03125, 1e-14);
}

// Dense: A of a channel, with the conjugates behind where modes are pairs.
struct Dense {
  int64_t n;
  Vector A, B, C;
};
Dense DenseOf(const TensorList& x, int64_t h, bool pairs) {
  const Vector Lambda = Of(x[0], h, 3), P = Of(x[1], h, 4), Q = Of(x[2], h, 4);
  const Vector B = Of(x[3], h, 3), C = Of(x[4], h, 3);
  const int64_t N = static_cast<int64_t>(Lambda.size()), n = pairs ? 2 * N : N;
  const int64_t rank = x[1].dim(-3);
  const auto at = [&](const Vector& v, int64_t i, int64_t first) {
    return i < N ? v[first + i] : std::conj(v[first + i - N]);
  };
  Dense dense{n, Vector(n * n), Vector(n), Vector(n)};
  for (int64_t i = 0; i < n; ++i) {
    dense.B[i] = at(B, i, 0);
    dense.C[i] = at(C, i, 0);
    dense.A[i * n + i] = at(Lambda, i, 0);
    for (int64_t k = 0; k < n; ++k) {
      for (int64_t r = 0; r < rank; ++r) {
        dense.A[i * n + k] -= at(P, i, r * N) * std::conj(at(Q, k, r * N));
      }
    }
  }
  return dense;
}

// a^-1 b [n, columns], by Gauss and Jordan, with pivoting.
Vector Solved(Vector a, Vector b, int64_t n) {
  const int64_t columns = n == 0 ? 0 : static_cast<int64_t>(b.size()) / n;
  for (int64_t k = 0; k < n; ++k) {
    int64_t pivot = k;
    for (int64_t i = k; i < n; ++i) {
      if (std::abs(a[i * n + k]) > std::abs(a[pivot * n + k])) pivot = i;
    }
    for (int64_t j = 0; j < n; ++j) std::swap(a[k * n + j], a[pivot * n + j]);
    for (int64_t j = 0; j < columns; ++j) std::swap(b[k * columns + j], b[pivot * columns + j]);
    for (int64_t i = 0; i < n; ++i) {
      const Complex factor = a[i * n + k] / a[k * n + k];
      if (i == k) continue;
      for (int64_t j = 0; j < n; ++j) a[i * n + j] -= factor * a[k * n + j];
      for (int64_t j = 0; j < columns; ++j) b[i * columns + j] -= factor * b[k * columns + j];
    }
  }
  for (int64_t i = 0; i < n * columns; ++i) b[i] /= a[i / columns * n + i / columns];
  return b;
}

Vector Times(const Vector& a, const Vector& x, int64_t n) {
  Vector y(n);
  for (int64_t i = 0; i < n * n; ++i) y[i / n] += a[i] * x[i % n];
  return y;
}

Tensor DplrReference(const TensorList& x, const DplrKernelOptions& options) {
  const int64_t H = x[5].elements(), L = x[6].elements();
  Tensor K = Tensor::Zeros({H, L}, kF64);
  for (int64_t h = 0; h < H; ++h) {
    Dense dense = DenseOf(x, h, options.conjugate_pairs);
    const int64_t n = dense.n;
    const double dt = x[5].data<double>()[h];
    Vector minus(n * n), plus(n * n), scaled = dense.B;
    for (int64_t i = 0; i < n * n; ++i) {
      const double one = i / n == i % n ? 1 : 0;
      minus[i] = one - dt / 2 * dense.A[i];
      plus[i] = one + dt / 2 * dense.A[i];
    }
    for (Complex& b : scaled) b *= dt;
    const Vector A_bar = Solved(minus, plus, n);
    Vector state = Solved(minus, scaled, n);
    if (options
            .truncated_c) {  // C (I - A_bar^L) is given: C is the solution of the transposed system
      Vector power(n * n), transposed(n * n);
      for (int64_t i = 0; i < n; ++i) {
        Vector column(n);
        column[i] = 1;
        for (int64_t l = 0; l < L; ++l) column = Times(A_bar, column, n);
        for (int64_t k = 0; k < n; ++k) transposed[i * n + k] = (i == k ? 1.0 : 0.0) - column[k];
      }
      dense.C = Solved(transposed, dense.C, n);
    }
    for (int64_t l = 0; l < L; ++l, state = Times(A_bar, state, n)) {
      for (int64_t i = 0; i < n; ++i) {
        K.mutable_data<double>()[h * L + l] += (dense.C[i] * state[i]).real();
      }
    }
  }
  return K;
}

OpCase DplrCase(bool pairs, bool truncated, bool other_rank) {
  DplrKernelOptions options;
  options.conjugate_pairs = pairs;
  options.truncated_c = truncated;
  OpCase op_case("dplr_ssm_kernel");
  op_case
      .Run([options](const TensorList& x) {
        return TensorList{
            DplrSsmKernel(x[0], x[1], x[2], x[3], x[4], x[5], x[6].elements(), options)};
      })
      .Reference([options](const TensorList& x) { return TensorList{DplrReference(x, options)}; })
      .Ulps(256, 2048);
  const auto row = [&](int64_t H, int64_t N, int64_t r, int64_t L, bool shared) {
    const Shape own{H, N, 2}, same = shared ? Shape{N, 2} : own;
    const Shape low = shared ? Shape{r, N, 2} : Shape{H, r, N, 2};
    op_case.Row({OpInput(same, OpInput::kUniform, -1, -0.3),
                 OpInput(low, OpInput::kUniform, -0.5, 0.5),
                 OpInput(low, OpInput::kUniform, -0.5, 0.5), OpInput(same), OpInput(own),
                 OpInput({H}, OpInput::kUniform, 0.3, 1), OpInput({L}, OpInput::kIndex)});
  };
  if (other_rank) {
    row(2, 3, 2, 7, false);
    row(1, 4, 3, 12, true);
    row(2, 3, 0, 5, false);
    return op_case;
  }
  // With C (I - A_bar^L) given, K_0 of L = 1 does not depend on dt: no gradient to compare with.
  row(1, 1, 1, truncated ? 3 : 1, false);
  row(2, 3, 1, 8, true);
  row(1, 5, 1, 2, false);
  row(2, 3, 1, 37, false);
  row(1, 2, 1, 300, false);  // three blocks of nodes
  row(2, 3, 1, 0, true);
  row(2, 0, 1, 5, false);
  row(0, 2, 1, 5, false);
  return op_case;
}
RESIDUAL_OP_TEST(DplrPairs, DplrCase(true, false, false));
RESIDUAL_OP_TEST(DplrWhole, DplrCase(false, false, false));
RESIDUAL_OP_TEST(DplrTruncated, DplrCase(true, true, false));
RESIDUAL_OP_TEST(DplrOtherRanks, DplrCase(true, false, true));
RESIDUAL_OP_TEST(DplrOtherRanksWhole, DplrCase(false, true, true));

// HiPPO-LegS at the sizes of the paper's longest task: f32 against f64.
TEST(DplrSsmKernelTest, LongKernelsInSinglePrecision) {
  // Poles as far out and as lightly damped as those of LegS with N = 64.
  const int64_t N = 32, H = 2;
  Tensor Lambda = Tensor::Zeros({N, 2}, kF32), P = Tensor::Zeros({1, N, 2}, kF32);
  for (int64_t n = 0; n < N; ++n) {
    Lambda.mutable_data<float>()[2 * n] = -0.5f;
    Lambda.mutable_data<float>()[2 * n + 1] = static_cast<float>(1300.0 / (2 * n + 1));
    P.mutable_data<float>()[2 * n] = static_cast<float>(std::sqrt(n + 0.5));
  }
  const Tensor B = RandomNormal({N, 2}, 1, kF32), C = RandomNormal({H, N, 2}, 2, kF32);
  const Tensor dt = Tensor::Of<float>({H}, {0.001f, 0.05f});
  for (const int64_t length : {784, 1024, 16384}) {
    const Tensor got = DplrSsmKernel(Lambda, P, P, B, C, dt, length);
    const auto wide = [](const Tensor& x) { return ConvertTo(x, kF64); };
    const Tensor want =
        DplrSsmKernel(wide(Lambda), wide(P), wide(P), wide(B), wide(C), wide(dt), length);
    const std::vector<double> ours = got.ToDoubles(), theirs = want.ToDoubles();
    for (int64_t h = 0; h < H; ++h) {
      double worst = 0, largest = 0;
      for (int64_t i = h * length; i < (h + 1) * length; ++i) {
        worst = std::max(worst, std::abs(ours[i] - theirs[i]));
        largest = std::max(largest, std::abs(theirs[i]));
      }
      EXPECT_LT(worst, 1e-5 * largest) << length << " " << h;
    }
  }
}

TEST(DplrSsmKernelTest, TheTruncatedOutputGivesTheSameKernel) {
  const Tensor Lambda = Tensor::Of<double>({2, 2}, {-0.5, 1, -0.2, 3});
  const Tensor P = RandomNormal({1, 2, 2}, 1), B = RandomNormal({2, 2}, 3);
  const Tensor C = RandomNormal({2, 2, 2}, 4), dt = Tensor::Of<double>({2}, {0.1, 0.2});
  DplrKernelOptions options;
  const Tensor want = DplrSsmKernel(Lambda, P, P, B, C, dt, 23, options);
  options.truncated_c = true;
  const Tensor truncated = TruncatedOutput(Lambda, P, P, C, dt, 23);
  ExpectClose(DplrSsmKernel(Lambda, P, P, B, truncated, dt, 23, options), want, 16, "kernel");
}

TEST(SsmKernelDeathTest, SayWhatDoesNotFit) {
  const Tensor A = Tensor::Zeros({3, 2}), C = Tensor::Zeros({2, 3, 2}), dt = Tensor::Full({2}, 1);
  const Tensor P = Tensor::Zeros({1, 3, 2});
  EXPECT_DEATH(DiagonalSsmKernel(Tensor::Zeros({4, 2}), A, C, dt, 5), "f32\\[4, 2\\]");
  EXPECT_DEATH(DiagonalSsmKernel(A, A, Tensor::Zeros({3, 3, 2}), dt, 5), "f32\\[3, 3, 2\\]");
  EXPECT_DEATH(DiagonalSsmKernel(A, A, ConvertTo(C, kF64), dt, 5), "f64\\[2, 3, 2\\]");
  EXPECT_DEATH(DiagonalSsmKernel(A, A, C, dt, -1), "-1 against 0. diagonal_ssm_kernel");
  EXPECT_DEATH(DplrSsmKernel(A, A, P, A, C, dt, 5), "f32\\[3, 2\\]");
  EXPECT_DEATH(DplrSsmKernel(A, P, Tensor::Zeros({2, 3, 2}), A, C, dt, 5), "f32\\[2, 3, 2\\]");
}

}  // namespace
}  // namespace residual
