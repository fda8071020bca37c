#include "ops/ssm_recurrence/ssm_recurrence.h"

#include <vector>

#include "gtest/gtest.h"
#include "ops/ssm_recurrence/ssm_recurrence_kernels.h"
#include "tensor/base/parallel.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

constexpr int64_t kH = 3, kN = 5, kL = 29;

struct Case {
  const char* name;
  DiscreteSsm ssm;
  Tensor kernel;  // [H, L]
};

Tensor Stable(const Shape& shape, uint64_t seed) {
  Tensor x = RandomNormal(shape, seed);
  for (int64_t i = 0; i < x.elements(); i += 2) {
    x.mutable_data<double>()[i] = -0.1 - std::abs(x.data<double>()[i]);
  }
  return x;
}

std::vector<Case> Cases() {
  const Tensor A = Stable({kN, 2}, 1), B = RandomNormal({kN, 2}, 2);
  const Tensor C = RandomNormal({kH, kN, 2}, 3), dt = Tensor::Of<double>({kH}, {0.1, 0.2, 0.5});
  const Tensor P = RandomNormal({kH, 2, kN, 2}, 4);
  std::vector<Case> cases;
  for (const bool pairs : {false, true}) {
    for (const Discretization discretization : {Discretization::kZoh, Discretization::kBilinear}) {
      DiagonalKernelOptions options;
      options.discretization = discretization;
      options.conjugate_pairs = pairs;
      cases.push_back({"diagonal", DiscretizeDiagonal(A, B, C, dt, options),
                       DiagonalSsmKernel(A, B, C, dt, kL, options)});
    }
    DplrKernelOptions options;
    options.conjugate_pairs = pairs;
    cases.push_back({"dplr", DiscretizeDplr(A, P, P, B, C, dt, pairs),
                     DplrSsmKernel(A, P, P, B, C, dt, kL, options)});
  }
  return cases;
}

class SsmRecurrenceTest : public EachTarget {};
RESIDUAL_EACH_TARGET(SsmRecurrenceTest);

TEST_P(SsmRecurrenceTest, IsTheConvolutionWithTheKernel) {
  const Tensor u = RandomNormal({2, kL, kH}, 9);
  for (const Case& c : Cases()) {
    Tensor want = Tensor::Zeros(u.shape(), kF64);
    double* to = want.mutable_data<double>();
    for (int64_t i = 0; i < u.elements(); ++i) {
      const int64_t batch = i / (kL * kH), t = i / kH % kL, h = i % kH;
      for (int64_t s = 0; s <= t; ++s) {
        to[i] +=
            c.kernel.data<double>()[h * kL + t - s] * u.data<double>()[(batch * kL + s) * kH + h];
      }
    }
    ExpectClose(SsmRecurrence(c.ssm, u).y, want, 256, c.name);
    const Tensor in_f32 = SsmRecurrence(c.ssm, ConvertTo(u, kF32)).y;
    ExpectClose(in_f32, want, 8, c.name);
  }
}

TEST_P(SsmRecurrenceTest, GoesOnFromAState) {
  const Tensor u = RandomNormal({1, kL, kH}, 9);
  const auto part = [&](int64_t begin, int64_t end) {
    return u.Reshaped({kL, kH}).Rows(begin, end).Reshaped({1, end - begin, kH});
  };
  for (const Case& c : Cases()) {
    const SsmOutput whole = SsmRecurrence(c.ssm, u);
    SsmOutput at = SsmRecurrence(c.ssm, part(0, 11));
    at = SsmRecurrence(c.ssm, part(11, 11), at.state);  // nothing happens
    EXPECT_EQ(at.y.elements(), 0);
    for (int64_t t = 11; t < kL; ++t) {
      at = SsmRecurrence(c.ssm, part(t, t + 1), at.state);
      ExpectIdentical(at.y.Reshaped({kH}), whole.y.Reshaped({kL, kH}).Row(t), c.name);
    }
    ExpectIdentical(at.state, whole.state, c.name);
  }
}

TEST(SsmRecurrenceTest, TheSameForAnyNumberOfThreads) {
  const int before = NumThreads();
  const Tensor A = Stable({40, 2}, 1), B = RandomNormal({40, 2}, 2);
  const PackedSsm ssm =
      Pack(DiscretizeDiagonal(A, B, RandomNormal({70, 40, 2}, 3), Tensor::Full({70}, 0.1, kF64)));
  const Tensor u = ConvertTo(RandomNormal({3, 2, 70}, 9), kF32);
  SetNumThreads(1);
  const SsmOutput alone = SsmRecurrence(ssm, u);
  SetNumThreads(2);
  const SsmOutput together = SsmRecurrence(ssm, u);
  SetNumThreads(before);
  ExpectIdentical(alone.y, together.y, "y");
  ExpectIdentical(alone.state, together.state, "state");
}

TEST(SsmRecurrenceTest, NoModesNoChannels) {
  const Tensor none = Tensor::Zeros({2, 0, 2}, kF64), dt = Tensor::Full({2}, 1, kF64);
  const SsmOutput empty =
      SsmRecurrence(DiscretizeDiagonal(none, none, none, dt), RandomNormal({1, 3, 2}, 1));
  for (const double y : empty.y.span<double>()) EXPECT_EQ(y, 0);
  EXPECT_EQ(empty.state.shape(), Shape({1, 2, 0, 2}));
}

TEST(SsmRecurrenceDeathTest, SaysWhatDoesNotFit) {
  const DiscreteSsm ssm = Cases()[0].ssm;
  EXPECT_DEATH(SsmRecurrence(ssm, Tensor::Zeros({1, 2, 4})), "f32\\[1, 2, 4\\]");
  EXPECT_DEATH(SsmRecurrence(ssm, Tensor::Zeros({1, 2, 3}), Tensor::Zeros({1, 3, 5, 2}, kF64)),
               "f64\\[1, 3, 5, 2\\]");
  DiagonalKernelOptions options;
  options.discretization = Discretization::kDssSoftmax;
  const Tensor x = Tensor::Zeros({1, 2}), dt = Tensor::Full({1}, 1);
  EXPECT_DEATH(DiscretizeDiagonal(x, x, x, dt, options), "softmax");
}

}  // namespace
}  // namespace residual
