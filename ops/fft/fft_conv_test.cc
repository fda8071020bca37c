#include "ops/fft/fft_conv.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "ops/layout/layout.h"
#include "tensor/autograd/tape.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

enum { kU, kKernel, kReverse, kD, kAdded };

FftConvInputs InputsOf(const TensorList& x) {
  // Under bf16 only sequences are.
  const auto exact = [](const Tensor& t) {
    return t.defined() && t.dtype() == kBF16 ? Cast(t, kF32) : t;
  };
  FftConvInputs in;
  in.u = x[kU];
  in.kernel = exact(x[kKernel]);
  in.reverse_kernel = exact(x[kReverse]);
  in.D = exact(x[kD]);
  in.added = x[kAdded];
  return in;
}

// The definition.
TensorList ReferenceConv(const TensorList& x) {
  const Tensor& u = x[kU];
  const int64_t length = u.dim(1), channels = u.dim(2), taps = x[kKernel].dim(1);
  const auto value = [](const Tensor& t, int64_t i) {
    return t.defined() ? t.data<double>()[i] : 0;
  };
  Tensor y = Tensor::Uninitialized(u.shape(), kF64);
  for (int64_t i = 0; i < u.elements(); ++i) {
    const int64_t t = i / channels % length, c = i % channels;
    double sum = value(x[kD], c) * value(u, i) + value(x[kAdded], i);
    for (int64_t s = 0; s < taps && s <= t; ++s)
      sum += value(x[kKernel], c * taps + s) * value(u, i - s * channels);
    for (int64_t s = 0; s < taps && t + s < length; ++s)
      sum += value(x[kReverse], c * taps + s) * value(u, i + s * channels);
    y.mutable_data<double>()[i] = sum;
  }
  return {y};
}

struct Parts {
  bool reverse = true, D = true, added = true;
};

std::vector<OpInput> Row(const Shape& u, int64_t taps, const Parts& parts) {
  const OpInput none{Tensor()};
  const Shape kernel({u[2], taps});
  return {OpInput(u), OpInput(kernel), parts.reverse ? OpInput(kernel) : none,
          parts.D ? OpInput(Shape({u[2]})) : none, parts.added ? OpInput(u) : none};
}

OpCase ConvCase() {
  OpCase op_case("fft_conv");
  op_case.Run([](const TensorList& x) { return TensorList{FftConv(InputsOf(x))}; })
      .Reference(ReferenceConv)
      .DTypes({kF32, kF64, kBF16})
      .Ulps(16, 32);
  return op_case;
}

// Lengths: none, less than two stages have, and such as need threes and fives or are padded.
RESIDUAL_OP_TEST(FftConv, ConvCase()
                              .Row(Row({2, 1, 3}, 1, {}))
                              .Row(Row({2, 2, 3}, 2, {}))
                              .Row(Row({1, 3, 17}, 3, {}))
                              .Row(Row({3, 5, 16}, 5, {}))
                              .Row(Row({1, 7, 1}, 7, {}))
                              .Row(Row({1, 13, 2}, 13, {}))
                              .Row(Row({1, 16, 2}, 16, {}))
                              .Row(Row({1, 45, 2}, 45, {}))
                              .Row(Row({1, 64, 2}, 64, {}))
                              .Row(Row({0, 4, 2}, 4, {}))
                              .Row(Row({2, 0, 2}, 4, {}))
                              .Row(Row({2, 3, 0}, 4, {})));
RESIDUAL_OP_TEST(FftConvParts, ConvCase()
                                   .Row(Row({2, 6, 3}, 6, {false, false, false}))
                                   .Row(Row({2, 6, 3}, 6, {false, true, false}))
                                   .Row(Row({1, 6, 3}, 6, {true, false, true})));
RESIDUAL_OP_TEST(FftConvTaps, ConvCase()
                                  .Row(Row({2, 9, 3}, 4, {}))
                                  .Row(Row({2, 9, 3}, 12, {}))
                                  .Row(Row({1, 20, 2}, 1, {}))
                                  .Row(Row({2, 4, 2}, 0, {})));

// Standard normal numbers; as many taps as positions.
FftConvInputs Inputs(int64_t batch, int64_t length, int64_t channels, DType dtype = kF32) {
  FftConvInputs in;
  in.u = RandomNormal({batch, length, channels}, 1, dtype);
  in.kernel = RandomNormal({channels, length}, 2, dtype);
  in.reverse_kernel = RandomNormal({channels, length}, 3, dtype);
  in.D = RandomNormal({channels}, 4, dtype);
  return in;
}

struct Results {
  Tensor y, du, dkernel, dreverse, dD;
};
Results BothWays(FftConvInputs in, const Tensor& dy) {
  Tape tape;
  for (Tensor* x : {&in.u, &in.kernel, &in.reverse_kernel, &in.D}) {
    if (x->defined()) tape.Watch(*x);
  }
  const Tensor y = FftConv(in);
  const Gradients grads = tape.Backward({y}, {dy}, {});
  return {y, grads.Find(in.u), grads.Find(in.kernel),
          in.reverse_kernel.defined() ? grads.Find(in.reverse_kernel) : Tensor(),
          in.D.defined() ? grads.Find(in.D) : Tensor()};
}

FftConvInputs Doubles(const FftConvInputs& in) {
  FftConvInputs out = in;
  for (Tensor* x : {&out.u, &out.kernel, &out.reverse_kernel, &out.D, &out.added}) {
    if (x->defined()) *x = ConvertTo(*x, kF64);
  }
  return out;
}

// The root of the mean square of the difference, by that of what is wanted.
double Error(const Tensor& got, const Tensor& want) {
  const std::vector<double> a = got.ToDoubles(), b = want.ToDoubles();
  double difference = 0, square = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    square += b[i] * b[i];
  }
  return std::sqrt(difference / square);
}

class FftConvTest : public EachTarget {};
RESIDUAL_EACH_TARGET(FftConvTest);

// Lengths where blocks of stages go depth first, in double against the definition.
TEST_P(FftConvTest, IsItsDefinitionAtLength) {
  for (const int64_t length : {100, 257, 1000, 1024, 1361}) {
    const FftConvInputs in = Inputs(1, length, 2, kF64);
    const Tensor want = ReferenceConv({in.u, in.kernel, in.reverse_kernel, in.D, Tensor()})[0];
    ExpectClose(FftConv(in), want, 32, "y of length " + std::to_string(length));
  }
}

// And in float against double, both ways, with more channels than a vector has.
TEST_P(FftConvTest, IsAsExactAsFloatIs) {
  for (const int64_t length : {784, 1024, 4096}) {
    const FftConvInputs in = Inputs(2, length, 19);
    const Tensor dy = RandomNormal(in.u.shape(), 5, kF32);
    const Results got = BothWays(in, dy), want = BothWays(Doubles(in), ConvertTo(dy, kF64));
    EXPECT_LT(Error(got.y, want.y), 4e-7) << length;
    EXPECT_LT(Error(got.du, want.du), 4e-7) << length;
    EXPECT_LT(Error(got.dkernel, want.dkernel), 4e-7) << length;
    EXPECT_LT(Error(got.dreverse, want.dreverse), 4e-7) << length;
    EXPECT_LT(Error(got.dD, want.dD), 1e-5) << length;
  }
}

// A plain sum in float, as one would write it, is less exact.
TEST_P(FftConvTest, IsMoreExactThanAPlainSum) {
  constexpr int64_t kLength = 1024;
  FftConvInputs in = Inputs(1, kLength, 1);
  in.reverse_kernel = in.D = Tensor();
  std::vector<float> plain(kLength);
  for (int64_t t = 0; t < kLength; ++t) {
    for (int64_t s = 0; s <= t; ++s)
      plain[t] += in.kernel.data<float>()[s] * in.u.data<float>()[t - s];
  }
  const Tensor want = FftConv(Doubles(in));
  EXPECT_LT(Error(FftConv(in), want), Error(Tensor::Of<float>({1, kLength, 1}, plain), want));
}

TEST_P(FftConvTest, OnlyWhatIsWatchedHasAGradient) {
  FftConvInputs in = Inputs(2, 40, 3);
  const Tensor dy = RandomNormal(in.u.shape(), 5, kF32);
  const Results all = BothWays(in, dy);
  {
    Tape tape;
    tape.Watch(in.u);
    const Tensor y = FftConv(in);
    ExpectIdentical(tape.Backward({y}, {dy}, {}).Find(in.u), all.du, "du alone");
  }
  in = Inputs(2, 40, 3);
  {
    Tape tape;
    tape.Watch(in.kernel);
    const Tensor y = FftConv(in);
    ExpectIdentical(tape.Backward({y}, {dy}, {}).Find(in.kernel), all.dkernel, "dkernel alone");
  }
}

// Backwards in time a causal kernel is a reverse one, with no position of difference.
TEST_P(FftConvTest, TheReverseKernelIsTheKernelOfTheReversedSequence) {
  constexpr int64_t kLength = 37;
  FftConvInputs in = Inputs(1, kLength, 1, kF64), reversed = in;
  in.D = reversed.D = Tensor();
  reversed.kernel = in.reverse_kernel;
  reversed.reverse_kernel = in.kernel;
  std::vector<double> u = in.u.ToDoubles();
  reversed.u = Tensor::Of<double>({1, kLength, 1}, std::vector<double>(u.rbegin(), u.rend()));
  const std::vector<double> y = FftConv(reversed).ToDoubles();
  ExpectClose(FftConv(in),
              Tensor::Of<double>({1, kLength, 1}, std::vector<double>(y.rbegin(), y.rend())), 16,
              "reversed");
}

TEST_P(FftConvTest, NaNStaysInItsRowAndChannel) {
  FftConvInputs in = Inputs(2, 30, 19);
  in.u.mutable_data<float>()[30 * 19 + 3 * 19 + 5] = std::nanf("");
  const std::vector<double> y = FftConv(in).ToDoubles();
  for (int64_t i = 0; i < 2 * 30 * 19; ++i)
    EXPECT_EQ(std::isnan(y[i]), i >= 30 * 19 && i % 19 == 5) << i;
}

// Results of so many bytes are written past the caches.
TEST_P(FftConvTest, LargeResultsAreThoseOfTheirRows) {
  const FftConvInputs in = Inputs(5, 4096, 256);
  const Tensor y = FftConv(in);
  for (const int64_t row : {0, 4}) {
    FftConvInputs one = in;
    one.u = in.u.Rows(row, row + 1);
    ExpectIdentical(FftConv(one), y.Rows(row, row + 1), "row");
  }
}

TEST(FftConvDeathTest, SaysWhatDoesNotFit) {
  FftConvInputs in = Inputs(1, 4, 6);
  in.kernel = Tensor::Zeros({5, 4});
  EXPECT_DEATH(FftConv(in), "fft_conv.*f32\\[5, 4\\]");
  in = Inputs(1, 4, 6);
  in.reverse_kernel = Tensor::Zeros({6, 5});
  EXPECT_DEATH(FftConv(in), "fft_conv.*f32\\[6, 5\\]");
  in = Inputs(1, 4, 6);
  in.D = Tensor::Zeros({1});
  EXPECT_DEATH(FftConv(in), "fft_conv.*f32\\[1\\]");
  in = Inputs(1, 4, 6);
  in.added = Tensor::Zeros({1, 3, 6});
  EXPECT_DEATH(FftConv(in), "fft_conv.*f32\\[1, 3, 6\\]");
  in = Inputs(1, 4, 6);
  in.kernel = ConvertTo(in.kernel, kF64);
  EXPECT_DEATH(FftConv(in), "fft_conv.*f64\\[6, 4\\]");
}

}  // namespace
}  // namespace residual
