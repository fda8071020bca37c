#include "ops/scan/hidden_attention.h"

#include <cmath>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "ops/elementwise/elementwise.h"
#include "tensor/base/parallel.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

SelectiveScanInputs Inputs(int64_t batch, int64_t length, int64_t dim, int64_t state,
                           int64_t groups = 0) {
  SelectiveScanInputs in;
  const Shape coefficients =
      groups > 0 ? Shape({batch, length, groups, state}) : Shape({batch, length, state});
  in.u = RandomNormal({batch, length, dim}, 1, kF32);
  in.delta = AddScalar(RandomNormal({batch, length, dim}, 2, kF32), -2);
  in.A = Scale(Exp(RandomNormal({dim, state}, 3, kF32)), -1);
  in.B = RandomNormal(coefficients, 4, kF32);
  in.C = RandomNormal(coefficients, 5, kF32);
  in.D = RandomNormal({dim}, 6, kF32);
  in.delta_bias = Scale(RandomNormal({dim}, 7, kF32), 0.1);
  in.softplus = true;
  return in;
}

std::vector<int64_t> All(int64_t dim) {
  std::vector<int64_t> channels(dim);
  std::iota(channels.begin(), channels.end(), int64_t{0});
  return channels;
}

// M u + D u is y, in double.
void ExpectIsTheScan(const SelectiveScanInputs& in, const std::vector<int64_t>& channels) {
  const int64_t batch = in.u.dim(0), length = in.u.dim(1), dim = in.u.dim(2);
  const int64_t count = static_cast<int64_t>(channels.size());
  const Tensor y = SelectiveScan(in).y, M = HiddenAttention(in, channels);
  ASSERT_EQ(M.shape(), Shape({batch, count, length, length}));
  Tensor got = Tensor::Zeros({batch, length, count});
  Tensor want = Tensor::Zeros({batch, length, count}, kF64);
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t i = 0; i < count; ++i) {
      const float* m = M.data<float>() + (b * count + i) * length * length;
      for (int64_t t = 0; t < length; ++t) {
        const auto u = [&](int64_t s) {
          return static_cast<double>(in.u.data<float>()[(b * length + s) * dim + channels[i]]);
        };
        double sum = in.D.defined() ? in.D.data<float>()[channels[i]] * u(t) : 0;
        for (int64_t s = 0; s < length; ++s) {
          sum += m[t * length + s] * u(s);
          if (s > t) {
            EXPECT_EQ(m[t * length + s], 0) << t << " reads " << s;
          }
        }
        const int64_t at = (b * length + t) * count + i;
        got.mutable_data<float>()[at] = static_cast<float>(sum);
        want.mutable_data<double>()[at] = y.data<float>()[(b * length + t) * dim + channels[i]];
      }
    }
  }
  ExpectClose(got, want, 1e-5 / Epsilon(kF32), "M u + D u");
}

class HiddenAttentionTest : public EachTarget {};
RESIDUAL_EACH_TARGET(HiddenAttentionTest);

// Lengths around those of a task (16), widths around those of a vector.
TEST_P(HiddenAttentionTest, TimesTheInputIsTheScan) {
  ExpectIsTheScan(Inputs(2, 5, 3, 4), All(3));
  ExpectIsTheScan(Inputs(1, 1, 1, 1), All(1));
  ExpectIsTheScan(Inputs(1, 17, 33, 16), All(33));
  ExpectIsTheScan(Inputs(1, 40, 17, 3), All(17));
  ExpectIsTheScan(Inputs(2, 16, 16, 2), All(16));
}

TEST_P(HiddenAttentionTest, OfChosenChannelsInTheirOrder) {
  ExpectIsTheScan(Inputs(2, 19, 40, 5), {39, 0, 7, 7, 8});
  ExpectIsTheScan(Inputs(1, 6, 12, 3, 4), {11, 0, 1, 2, 3, 8, 2});  // of several groups
  ExpectIsTheScan(Inputs(1, 6, 12, 3, 4), All(12));
  EXPECT_EQ(HiddenAttention(Inputs(1, 3, 4, 2), {}).shape(), Shape({1, 0, 3, 3}));
  EXPECT_EQ(HiddenAttention(Inputs(1, 0, 4, 2), {1}).shape(), Shape({1, 1, 0, 0}));
}

TEST_P(HiddenAttentionTest, OfConstantCoefficientsAndPlainSteps) {
  SelectiveScanInputs in = Inputs(2, 21, 18, 4);
  in.B = RandomNormal({18, 4}, 8, kF32);
  ExpectIsTheScan(in, All(18));
  in.C = RandomNormal({18, 4}, 9, kF32);
  in.softplus = false;
  in.delta_bias = Tensor();
  in.D = Tensor();
  in.delta = Scale(Exp(in.delta), 0.3);
  ExpectIsTheScan(in, All(18));
}

TEST_P(HiddenAttentionTest, EndsWhereASequenceBegins) {
  SelectiveScanInputs in = Inputs(2, 30, 5, 3);
  in.segments = Tensor::Zeros({2, 30}, kI64);
  for (int64_t i = 0; i < 60; ++i) in.segments.mutable_data<int64_t>()[i] = i % 30 / 7;
  ExpectIsTheScan(in, All(5));
  const Tensor M = HiddenAttention(in, {2});
  const float* m = M.data<float>();
  EXPECT_EQ(m[7 * 30 + 6], 0);
  EXPECT_NE(m[7 * 30 + 7], 0);
}

TEST_P(HiddenAttentionTest, MeansAreThoseOfAllChannels) {
  const SelectiveScanInputs in = Inputs(2, 37, 50, 6, 2);
  const Tensor M = HiddenAttention(in, All(50));
  Tensor mean = Tensor::Zeros({2, 37, 37}, kF64), absolute = Tensor::Zeros({2, 37, 37}, kF64);
  for (int64_t i = 0; i < M.elements(); ++i) {
    const int64_t at = i / (50 * 37 * 37) * 37 * 37 + i % (37 * 37);
    const double m = M.data<float>()[i];
    mean.mutable_data<double>()[at] += m / 50;
    absolute.mutable_data<double>()[at] += std::abs(m) / 50;
  }
  const Tensor got = HiddenAttentionMean(in, ChannelMean::kSigned);
  ExpectClose(got, mean, 32, "mean");
  ExpectClose(HiddenAttentionMean(in, ChannelMean::kAbsolute), absolute, 32, "absolute mean");
  SetNumThreads(3);
  ExpectIdentical(HiddenAttentionMean(in, ChannelMean::kSigned), got, "3 threads");
  SetNumThreads(1);
  ExpectIdentical(HiddenAttentionMean(in, ChannelMean::kSigned), got, "1 thread");
  SetNumThreads(2);
}

TEST(HiddenAttentionDeathTest, SaysWhatDoesNotFit) {
  EXPECT_DEATH(HiddenAttention(Inputs(1, 3, 4, 2), {4}), "channel 4 of f32\\[1, 3, 4\\]");
  SelectiveScanInputs in = Inputs(1, 3, 4, 2);
  in.C = Tensor::Zeros({1, 3, 5});
  EXPECT_DEATH(HiddenAttention(in, {0}), "hidden_attention.*f32\\[1, 3, 5\\]");
}

}  // namespace
}  // namespace residual
