#include "ops/conv/causal_conv.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "ops/layout/layout.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

enum { kX, kWeight, kBias, kInitial, kSegments };

CausalConvInputs InputsOf(const TensorList& x, bool silu) {
  CausalConvInputs in;
  in.x = x[kX];
  in.weight = x[kWeight];
  in.bias = x[kBias];
  in.initial_state = x[kInitial];
  in.segments = x[kSegments];
  in.silu = silu;
  return in;
}

// The definition: the sequence with its past before it, cut where a segment begins.
TensorList ReferenceConv(const TensorList& x, bool silu) {
  const int64_t batch = x[kX].dim(0), length = x[kX].dim(1), channels = x[kX].dim(2);
  const int64_t width = x[kWeight].dim(1), past = width - 1;
  Tensor y = Tensor::Zeros(x[kX].shape(), kF64);
  Tensor last = Tensor::Zeros({batch, channels, past}, kF64);
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t c = 0; c < channels; ++c) {
      std::vector<double> seen(past);
      for (int64_t k = 0; k < past && x[kInitial].defined(); ++k)
        seen[k] = x[kInitial].data<double>()[(b * channels + c) * past + k];
      for (int64_t t = 0; t < length; ++t) {
        const int64_t* s =
            x[kSegments].defined() ? x[kSegments].data<int64_t>() + b * length : nullptr;
        if (s != nullptr && t > 0 && s[t] != s[t - 1]) seen.assign(past, 0);
        seen.push_back(x[kX].data<double>()[(b * length + t) * channels + c]);
        double sum = x[kBias].defined() ? x[kBias].data<double>()[c] : 0;
        for (int64_t j = 0; j < width; ++j)
          sum += x[kWeight].data<double>()[c * width + j] * seen[seen.size() - width + j];
        y.mutable_data<double>()[(b * length + t) * channels + c] =
            silu ? sum / (1 + std::exp(-sum)) : sum;
      }
      for (int64_t k = 0; k < past; ++k)
        last.mutable_data<double>()[(b * channels + c) * past + k] = seen[seen.size() - past + k];
    }
  }
  return {y, last};
}

struct Sizes {
  int64_t batch, length, channels, width;
  bool bias = true, initial = true, segments = false;
};

std::vector<OpInput> Row(const Sizes& s) {
  const OpInput none{Tensor()};
  std::vector<OpInput> row = {OpInput(Shape({s.batch, s.length, s.channels})),
                              OpInput(Shape({s.channels, s.width}))};
  row.push_back(s.bias ? OpInput(Shape({s.channels})) : none);
  row.push_back(s.initial ? OpInput(Shape({s.batch, s.channels, s.width - 1})) : none);
  if (s.segments) {  // runs of 1, 2, 3, ..
    Tensor segments = Tensor::Zeros({s.batch, s.length}, kI64);
    for (int64_t i = 0; i < segments.elements(); ++i)
      segments.mutable_data<int64_t>()[i] =
          static_cast<int64_t>(std::sqrt(2.0 * static_cast<double>(i % s.length)));
    row.push_back(OpInput(segments));
  } else {
    row.push_back(none);
  }
  return row;
}

OpCase ConvCase(bool silu) {
  OpCase op_case("causal_conv");
  op_case
      .Run([silu](const TensorList& x) {
        const CausalConvResult result = CausalConv(InputsOf(x, silu));
        return TensorList{result.y, result.last_state};
      })
      .Reference([silu](const TensorList& x) { return ReferenceConv(x, silu); })
      .DTypes({kF32, kF64, kBF16})
      .Ulps(8, 64);
  return op_case;
}

// Lengths around those of the tasks, widths of channels around those of a vector.
RESIDUAL_OP_TEST(CausalConv, ConvCase(true)
                                 .Row(Row({2, 5, 3, 4}))
                                 .Row(Row({1, 1, 17, 4}))
                                 .Row(Row({1, 65, 16, 4}))
                                 .Row(Row({1, 131, 5, 3}))
                                 .Row(Row({3, 2, 33, 2}))
                                 .Row(Row({1, 7, 100, 4}))
                                 .Row(Row({0, 3, 4, 4}))
                                 .Row(Row({1, 0, 4, 4}))
                                 .Row(Row({2, 3, 0, 4})));
RESIDUAL_OP_TEST(CausalConvPlain, ConvCase(false)
                                      .Row(Row({2, 9, 5, 4, false, false}))
                                      .Row(Row({3, 1, 33, 4, false, false}))
                                      .Row(Row({5, 1, 40, 4, true, true}))
                                      .Row(Row({2, 3, 5, 1, true, true}))
                                      .Row(Row({1, 11, 7, 19, false, true})));
RESIDUAL_OP_TEST(CausalConvPacked, ConvCase(true)
                                       .Row(Row({2, 37, 5, 4, true, true, true}))
                                       .Row(Row({1, 70, 18, 5, false, false, true})));

CausalConvInputs Inputs(int64_t batch, int64_t length, int64_t channels, DType dtype = kF32) {
  CausalConvInputs in;
  in.x = RandomNormal({batch, length, channels}, 1, dtype);
  in.weight = RandomNormal({channels, 4}, 2, kF32);
  in.bias = RandomNormal({channels}, 3, kF32);
  in.silu = true;
  return in;
}

class CausalConvTest : public EachTarget {};
RESIDUAL_EACH_TARGET(CausalConvTest);

TEST_P(CausalConvTest, AnyCutHasTheBitsOfTheWhole) {
  for (const DType dtype : {kF32, kBF16}) {
    const CausalConvInputs in = Inputs(2, 70, 19, dtype);
    const CausalConvResult whole = CausalConv(in);
    for (const std::vector<int64_t>& ends :
         {std::vector<int64_t>{1, 70}, {2, 3, 4, 70}, {63, 64, 65, 70}, {69, 70}}) {
      CausalConvInputs part = in;
      int64_t begin = 0;
      for (const int64_t end : ends) {
        part.x = Slice(in.x, 1, begin, end);
        const CausalConvResult result = CausalConv(part);
        ExpectIdentical(result.y, Slice(whole.y, 1, begin, end), "part");
        part.initial_state = result.last_state;
        begin = end;
      }
      ExpectIdentical(part.initial_state, whole.last_state, "last state");
    }
  }
}

TEST_P(CausalConvTest, NothingSeesWhatComesAfter) {
  CausalConvInputs in = Inputs(1, 9, 18);
  const Tensor before = CausalConv(in).y;
  in.x.mutable_data<float>()[5 * 18 + 17] = std::nanf("");
  const std::vector<double> y = CausalConv(in).y.ToDoubles(), plain = before.ToDoubles();
  for (int64_t i = 0; i < 9 * 18; ++i) {
    const bool sees = i % 18 == 17 && i / 18 >= 5 && i / 18 < 9;
    EXPECT_EQ(std::isnan(y[i]), sees) << i;
    if (!sees) {
      EXPECT_EQ(y[i], plain[i]) << i;
    }
  }
}

TEST(CausalConvDeathTest, SaysWhatDoesNotFit) {
  CausalConvInputs in = Inputs(1, 4, 6);
  in.weight = Tensor::Zeros({5, 4});
  EXPECT_DEATH(CausalConv(in), "causal_conv.*f32\\[5, 4\\]");
  in = Inputs(1, 4, 6);
  in.initial_state = Tensor::Zeros({1, 6, 4});
  EXPECT_DEATH(CausalConv(in), "causal_conv.*f32\\[1, 6, 4\\]");
  in = Inputs(1, 4, 6);
  in.bias = Tensor::Zeros({6}, kF64);
  EXPECT_DEATH(CausalConv(in), "causal_conv.*f64\\[6\\]");
}

}  // namespace
}  // namespace residual
