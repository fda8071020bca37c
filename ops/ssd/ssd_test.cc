#include "ops/ssd/ssd.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "ops/elementwise/elementwise.h"
#include "ops/layout/layout.h"
#include "ops/scan/selective_scan.h"
#include "tensor/autograd/tape.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

// The order of operands in tables.
enum { kX, kDt, kA, kB, kC, kD, kBias, kInitial, kSegments };

struct Options {
  bool softplus = true;
  double dt_min = 0, dt_max = 100;
};

SsdInputs InputsOf(const TensorList& x, const Options& options) {
  // Under bf16 only x, B and C are.
  const auto exact = [](const Tensor& t) {
    return t.defined() && t.dtype() == kBF16 ? Cast(t, kF32) : t;
  };
  SsdInputs in;
  in.x = x[kX];
  in.dt = exact(x[kDt]);
  in.A = exact(x[kA]);
  in.B = x[kB];
  in.C = x[kC];
  in.D = exact(x[kD]);
  in.dt_bias = exact(x[kBias]);
  in.initial_state = exact(x[kInitial]);
  in.segments = x[kSegments];
  in.softplus = options.softplus;
  in.dt_min = options.dt_min;
  in.dt_max = options.dt_max;
  return in;
}

// The selective scan in double, with a channel for each dimension of each head.
TensorList ReferenceSsd(const TensorList& x, const Options& options) {
  const Shape& shape = x[kX].shape();
  const int64_t batch = shape[0], length = shape[1], heads = shape[2], head_dim = shape[3];
  const int64_t dim = heads * head_dim, state = x[kB].dim(3);
  const auto channels = [&](const Tensor& t) {  // [.., head] to [.., channel]
    return Repeat(t, -1, head_dim);
  };
  Tensor delta = x[kBias].defined() ? Add(x[kDt], x[kBias]) : x[kDt];
  if (options.softplus) delta = Softplus(delta);
  delta = delta.Clone();
  for (int64_t i = 0; i < delta.elements(); ++i) {
    double& d = delta.mutable_data<double>()[i];
    d = std::min(std::max(d, options.dt_min), options.dt_max);
  }
  SelectiveScanInputs in;
  in.u = x[kX].Reshaped({batch, length, dim});
  in.delta = channels(delta);
  in.A = Repeat(channels(x[kA]).Reshaped({dim, 1}), 1, state);
  in.B = x[kB];
  in.C = x[kC];
  if (x[kD].defined()) in.D = x[kD].rank() == 2 ? x[kD].Reshaped({dim}) : channels(x[kD]);
  if (x[kInitial].defined()) in.initial_state = x[kInitial].Reshaped({batch, dim, state});
  in.segments = x[kSegments];
  const SelectiveScanResult result = SelectiveScan(in);
  return {result.y.Reshaped(shape), result.last_state.Reshaped({batch, heads, head_dim, state})};
}

struct Sizes {
  int64_t batch, length, heads, head_dim, groups, state;
};

struct Parts {
  bool D = true, D_of_channels = false, bias = true, initial = true, segments = false;
};

std::vector<OpInput> Row(const Sizes& s, const Parts& parts = {}) {
  const OpInput none{Tensor()};
  std::vector<OpInput> row;
  row.push_back(OpInput(Shape({s.batch, s.length, s.heads, s.head_dim})));
  row.push_back(OpInput(Shape({s.batch, s.length, s.heads}), OpInput::kUniform, -1.5, 0.8));
  row.push_back(OpInput(Shape({s.heads}), OpInput::kUniform, -2, -0.05));
  row.push_back(OpInput(Shape({s.batch, s.length, s.groups, s.state})));
  row.push_back(OpInput(Shape({s.batch, s.length, s.groups, s.state})));
  row.push_back(!parts.D              ? none
                : parts.D_of_channels ? OpInput(Shape({s.heads, s.head_dim}))
                                      : OpInput(Shape({s.heads})));
  row.push_back(parts.bias ? OpInput(Shape({s.heads}), OpInput::kUniform, -0.04, 0.3) : none);
  row.push_back(parts.initial ? OpInput(Shape({s.batch, s.heads, s.head_dim, s.state})) : none);
  if (parts.segments) {  // runs of 1, 2, 3, ..
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

OpCase SsdCase(const Options& options) {
  OpCase op_case("ssd");
  op_case
      .Run([options](const TensorList& x) {
        const SsdResult result = Ssd(InputsOf(x, options));
        return TensorList{result.y, result.last_state};
      })
      .Reference([options](const TensorList& x) { return ReferenceSsd(x, options); })
      .DTypes({kF32, kF64, kBF16})
      .Ulps(16, 64);
  return op_case;
}

// Lengths around those of chunks (64) and of what is done step by step (4).
RESIDUAL_OP_TEST(Ssd, SsdCase({})
                          .Row(Row({2, 5, 3, 4, 1, 3}))
                          .Row(Row({1, 1, 2, 5, 2, 7}))
                          .Row(Row({2, 4, 1, 3, 1, 17}))
                          .Row(Row({1, 65, 2, 3, 1, 2}))
                          .Row(Row({1, 37, 1, 17, 1, 33}))
                          .Row(Row({0, 7, 2, 3, 1, 2}))
                          .Row(Row({1, 0, 2, 3, 1, 2}))
                          .Row(Row({1, 7, 2, 3, 1, 0}))
                          .Row(Row({1, 7, 2, 0, 1, 3}))
                          .Row(Row({1, 6, 0, 3, 1, 3})));
RESIDUAL_OP_TEST(SsdPlain, SsdCase({false, 0.05, 0.6})
                               .Row(Row({2, 67, 2, 2, 1, 3}, {false, false, false, false})));
RESIDUAL_OP_TEST(SsdLimits, SsdCase({true, 0.4, 0.7}).Row(Row({1, 20, 3, 2, 1, 2})));
RESIDUAL_OP_TEST(SsdPacked, SsdCase({})
                                .Row(Row({2, 9, 2, 3, 1, 2}, {true, true, true, true, true}))
                                .Row(Row({1, 131, 1, 2, 1, 2}, {true, true, true, true, true}))
                                .Row(Row({1, 4, 1, 2, 1, 2}, {true, true, true, true, true})));
RESIDUAL_OP_TEST(
    SsdGroups, SsdCase({}).Row(Row({2, 6, 6, 2, 3, 5}, {true, true})).Row(Row({1, 7, 4, 3, 4, 2})));

SsdInputs Inputs(int64_t length, int64_t heads, int64_t head_dim, int64_t groups, int64_t state,
                 DType dtype = kF32) {
  const DType exact = dtype == kBF16 ? kF32 : dtype;
  SsdInputs in;
  in.x = RandomNormal({1, length, heads, head_dim}, 1, dtype);
  in.dt = AddScalar(RandomNormal({1, length, heads}, 2, exact), -1);
  in.A = Scale(Exp(RandomNormal({heads}, 3, exact)), -1);
  in.B = RandomNormal({1, length, groups, state}, 4, dtype);
  in.C = RandomNormal({1, length, groups, state}, 5, dtype);
  in.D = RandomNormal({heads}, 6, exact);
  in.softplus = true;
  return in;
}

Tensor Positions(const Tensor& x, int64_t begin, int64_t end) {  // of a batch of one
  return x.Reshaped(x.shape().Without(0)).Rows(begin, end).Reshaped(x.shape().With(1, end - begin));
}

SsdInputs Part(SsdInputs in, int64_t begin, int64_t end) {
  for (Tensor* x : {&in.x, &in.dt, &in.B, &in.C}) *x = Positions(*x, begin, end);
  return in;
}

// Within 1e-6 of the largest.
void ExpectSame(const Tensor& got, const Tensor& want, const std::string& what) {
  ExpectClose(ConvertTo(got, kF32), ConvertTo(want, kF64), 1e-6 / Epsilon(kF32), what);
}

class SsdTest : public EachTarget {};
RESIDUAL_EACH_TARGET(SsdTest);

TEST_P(SsdTest, AnyCutHasTheResultsOfTheWhole) {
  const SsdInputs in = Inputs(150, 4, 19, 2, 16);
  const SsdResult whole = Ssd(in);
  for (const int64_t cut : {1, 3, 63, 64, 65, 100, 149}) {
    SsdInputs first = Part(in, 0, cut), second = Part(in, cut, 150);
    const SsdResult begun = Ssd(first);
    second.initial_state = begun.last_state;
    const SsdResult ended = Ssd(second);
    ExpectSame(begun.y, Positions(whole.y, 0, cut), "first part");
    ExpectSame(ended.y, Positions(whole.y, cut, 150), "second part");
    ExpectSame(ended.last_state, whole.last_state, "last state");
  }
}

TEST_P(SsdTest, StepsHaveTheResultsOfTheWhole) {
  const SsdInputs in = Inputs(70, 3, 8, 1, 20);
  const SsdResult whole = Ssd(in);
  Tensor state;
  for (int64_t t = 0; t < 70; ++t) {
    SsdInputs step = Part(in, t, t + 1);
    step.initial_state = state;
    const SsdResult result = Ssd(step);
    ExpectSame(result.y, Positions(whole.y, t, t + 1), "step");
    state = result.last_state;
  }
  ExpectSame(state, whole.last_state, "last state");
}

TEST_P(SsdTest, GradientsGoThroughACut) {
  SsdInputs in = Inputs(90, 2, 3, 1, 4, kF64);
  const Tensor dy = RandomNormal(in.x.shape(), 7), dlast = RandomNormal({1, 2, 3, 4}, 8);
  const auto watch = [](Tape& tape, SsdInputs& x) {
    for (Tensor* t : {&x.x, &x.dt, &x.A, &x.B, &x.C, &x.D}) tape.Watch(*t);
  };
  TensorList want, got;
  {
    SsdInputs x = in;
    Tape tape;
    watch(tape, x);
    const SsdResult result = Ssd(x);
    const Gradients g = tape.Backward({result.y, result.last_state}, {dy, dlast}, {});
    for (const Tensor* t : {&x.x, &x.dt, &x.A, &x.B, &x.C, &x.D}) want.push_back(g[*t]);
  }
  {
    SsdInputs x = in;
    Tape tape;
    watch(tape, x);
    SsdInputs first = x, second = x;
    for (Tensor SsdInputs::*t : {&SsdInputs::x, &SsdInputs::dt, &SsdInputs::B, &SsdInputs::C}) {
      first.*t = Slice(x.*t, 1, 0, 41);
      second.*t = Slice(x.*t, 1, 41, 90);
    }
    const SsdResult begun = Ssd(first);
    second.initial_state = begun.last_state;
    const SsdResult ended = Ssd(second);
    const Gradients g = tape.Backward({begun.y, ended.y, ended.last_state},
                                      {Slice(dy, 1, 0, 41), Slice(dy, 1, 41, 90), dlast}, {});
    for (const Tensor* t : {&x.x, &x.dt, &x.A, &x.B, &x.C, &x.D}) got.push_back(g[*t]);
  }
  for (size_t i = 0; i < want.size(); ++i) ExpectClose(got[i], want[i], 256, "gradient");
}

TEST_P(SsdTest, PackedSequencesAreTheSequences) {
  SsdInputs in = Inputs(140, 2, 8, 1, 4);
  const std::vector<int64_t> cuts = {0, 7, 66, 140};
  in.segments = Tensor::Zeros({1, 140}, kI64);
  for (int64_t i = 0; i < 140; ++i) in.segments.mutable_data<int64_t>()[i] = i < 7 ? 3 : i < 66;
  const SsdResult packed = Ssd(in);
  for (int i = 0; i < 3; ++i) {
    SsdInputs alone = Part(in, cuts[i], cuts[i + 1]);
    alone.segments = Tensor();
    const SsdResult result = Ssd(alone);
    ExpectSame(result.y, Positions(packed.y, cuts[i], cuts[i + 1]), "sequence");
    if (i == 2) ExpectSame(result.last_state, packed.last_state, "last state");
  }
}

// Sums of delta A of thousands within a chunk: what is close by is still exact.
TEST_P(SsdTest, StrongDecaysKeepTheirDigits) {
  SsdInputs in = Inputs(64, 1, 4, 1, 4);
  in.A = Tensor::Full({1}, -300);
  const TensorList x = {in.x, in.dt, in.A, in.B, in.C, in.D, Tensor(), Tensor(), Tensor()};
  TensorList wide;
  for (const Tensor& t : x) wide.push_back(t.defined() ? ConvertTo(t, kF64) : t);
  ExpectClose(Ssd(in).y, ReferenceSsd(wide, {})[0], 16, "y");
}

TEST_P(SsdTest, ExtremeStepsForgetAllOrNothing) {
  SsdInputs in = Inputs(6, 3, 1, 1, 1);
  in.A = Tensor::Of<float>({3}, {-1, -3e38f, -0.0f});
  in.dt = Tensor::Full({1, 6, 3}, 500);
  in.x = Tensor::Zeros({1, 6, 3, 1});
  for (int i = 0; i < 3; ++i) in.x.mutable_data<float>()[i] = 1;
  in.B = Tensor::Full({1, 6, 1, 1}, 1);
  EXPECT_EQ(Ssd(in).last_state.ToDoubles(), (std::vector<double>{0, 0, 500}));
}

TEST_P(SsdTest, NaNOfAHeadStaysThere) {
  SsdInputs in = Inputs(70, 3, 2, 1, 3);
  in.dt.mutable_data<float>()[5 * 3 + 1] = std::nanf("");
  const std::vector<double> y = Ssd(in).y.ToDoubles();
  for (int64_t i = 0; i < 70 * 6; ++i) {
    const bool of_head = i / 2 % 3 == 1;
    if (!of_head || i >= 5 * 6) {
      EXPECT_EQ(std::isnan(y[i]), of_head) << i;
    }
  }
}

TEST(SsdDeathTest, SaysWhatDoesNotFit) {
  SsdInputs in = Inputs(4, 6, 3, 2, 5);
  in.B = Tensor::Zeros({1, 4, 4, 5});  // 6 heads in 4 groups
  EXPECT_DEATH(Ssd(in), "ssd.*f32\\[1, 4, 4, 5\\]");
  in = Inputs(4, 6, 3, 2, 5);
  in.dt = ConvertTo(in.dt, kF64);
  EXPECT_DEATH(Ssd(in), "ssd.*f64\\[1, 4, 6\\]");
  in = Inputs(4, 6, 3, 2, 5);
  in.initial_state = Tensor::Zeros({1, 6, 5, 3});
  EXPECT_DEATH(Ssd(in), "ssd.*f32\\[1, 6, 5, 3\\]");
  in = Inputs(4, 6, 3, 2, 5);
  in.dt_min = 2;
  in.dt_max = 1;
  EXPECT_DEATH(Ssd(in), "dt_min 2, dt_max 1");
}

}  // namespace
}  // namespace residual
