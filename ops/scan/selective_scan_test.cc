#include "ops/scan/selective_scan.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "ops/elementwise/elementwise.h"
#include "ops/layout/layout.h"
#include "tensor/autograd/tape.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

// The order of operands in tables.
enum { kU, kDelta, kA, kB, kC, kD, kZ, kBias, kInitial, kSegments };

SelectiveScanInputs InputsOf(const TensorList& x, bool softplus) {
  // Under bf16 only u, z, B and C are.
  const auto exact = [](const Tensor& t) {
    return t.defined() && t.dtype() == kBF16 ? Cast(t, kF32) : t;
  };
  SelectiveScanInputs in;
  in.u = x[kU];
  in.delta = exact(x[kDelta]);
  in.A = exact(x[kA]);
  in.B = x[kB];
  in.C = x[kC];
  in.D = exact(x[kD]);
  in.z = x[kZ];
  in.delta_bias = exact(x[kBias]);
  in.initial_state = exact(x[kInitial]);
  in.segments = x[kSegments];
  in.softplus = softplus;
  return in;
}

// The definition, with the whole history of the state in memory.
TensorList ReferenceScan(const TensorList& x, bool softplus) {
  const Tensor &u = x[kU], &A = x[kA];
  const int64_t batch = u.dim(0), length = u.dim(1), dim = u.dim(2), state = A.dim(1);
  const auto coefficient = [&](const Tensor& t, int64_t b, int64_t l, int64_t c, int64_t n) {
    if (t.rank() == 2) return t.data<double>()[c * state + n];
    const int64_t groups = t.rank() == 4 ? t.dim(2) : 1, group = c * groups / dim;
    return t.data<double>()[((b * length + l) * groups + group) * state + n];
  };
  Tensor y = Tensor::Uninitialized(u.shape(), kF64);
  Tensor last = Tensor::Uninitialized({batch, dim, state}, kF64);
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t c = 0; c < dim; ++c) {
      std::vector<std::vector<double>> h(length + 1, std::vector<double>(state, 0.0));
      for (int64_t n = 0; n < state && x[kInitial].defined(); ++n)
        h[0][n] = x[kInitial].data<double>()[(b * dim + c) * state + n];
      for (int64_t l = 0; l < length; ++l) {
        const int64_t at = (b * length + l) * dim + c;
        double delta = x[kDelta].data<double>()[at];
        if (x[kBias].defined()) delta += x[kBias].data<double>()[c];
        if (softplus) delta = std::log1p(std::exp(delta));
        bool keeps = true;
        if (x[kSegments].defined() && l > 0) {
          const int64_t* s = x[kSegments].data<int64_t>() + b * length + l;
          keeps = s[0] == s[-1];
        }
        double sum = x[kD].defined() ? x[kD].data<double>()[c] * u.data<double>()[at] : 0;
        for (int64_t n = 0; n < state; ++n) {
          h[l + 1][n] = (keeps ? std::exp(delta * A.data<double>()[c * state + n]) * h[l][n] : 0) +
                        delta * coefficient(x[kB], b, l, c, n) * u.data<double>()[at];
          sum += coefficient(x[kC], b, l, c, n) * h[l + 1][n];
        }
        if (x[kZ].defined()) {
          const double z = x[kZ].data<double>()[at];
          sum *= z / (1 + std::exp(-z));
        }
        y.mutable_data<double>()[at] = sum;
      }
      for (int64_t n = 0; n < state; ++n)
        last.mutable_data<double>()[(b * dim + c) * state + n] = h[length][n];
    }
  }
  return {y, last};
}

struct Sizes {
  int64_t batch, length, dim, state;
  int64_t groups = 0;  // 0: B and C have no axis for it
};

// What a row of the table has besides u, delta, A, B and C.
struct Parts {
  bool D = true, z = true, bias = true, initial = true, segments = false;
  bool constant_B = false, constant_C = false;
};

std::vector<OpInput> Row(const Sizes& s, const Parts& parts) {
  const auto coefficients = [&](bool constant) {
    if (constant) return Shape({s.dim, s.state});
    return s.groups > 0 ? Shape({s.batch, s.length, s.groups, s.state})
                        : Shape({s.batch, s.length, s.state});
  };
  const Shape sequence({s.batch, s.length, s.dim});
  const OpInput none{Tensor()};
  std::vector<OpInput> row;
  row.push_back(OpInput(sequence));
  row.push_back(OpInput(sequence, OpInput::kUniform, 0.05, 0.8));
  row.push_back(OpInput(Shape({s.dim, s.state}), OpInput::kUniform, -4, -0.1));
  row.push_back(OpInput(coefficients(parts.constant_B)));
  row.push_back(OpInput(coefficients(parts.constant_C)));
  row.push_back(parts.D ? OpInput(Shape({s.dim})) : none);
  row.push_back(parts.z ? OpInput(sequence) : none);
  row.push_back(parts.bias ? OpInput(Shape({s.dim}), OpInput::kUniform, -0.04, 0.3) : none);
  row.push_back(parts.initial ? OpInput(Shape({s.batch, s.dim, s.state})) : none);
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

OpCase ScanCase(bool softplus, std::vector<DType> dtypes = {kF32, kF64, kBF16}) {
  OpCase op_case("selective_scan");
  op_case
      .Run([softplus](const TensorList& x) {
        const SelectiveScanResult result = SelectiveScan(InputsOf(x, softplus));
        return TensorList{result.y, result.last_state};
      })
      .Reference([softplus](const TensorList& x) { return ReferenceScan(x, softplus); })
      .DTypes(std::move(dtypes))
      .Ulps(16, 64);
  return op_case;
}

// Lengths around those of the chunks between saved states, widths around those of a vector.
RESIDUAL_OP_TEST(SelectiveScan, ScanCase(true)
                                    .Row(Row({2, 5, 3, 4}, {}))
                                    .Row(Row({1, 1, 17, 16}, {}))
                                    .Row(Row({1, 33, 16, 3}, {}))
                                    .Row(Row({1, 64, 1, 1}, {}))
                                    .Row(Row({3, 2, 33, 5}, {}))
                                    .Row(Row({0, 3, 4, 2}, {}))
                                    .Row(Row({1, 0, 4, 2}, {}))
                                    .Row(Row({1, 3, 4, 0}, {}))
                                    .Row(Row({1, 7, 300, 2}, {})));
RESIDUAL_OP_TEST(SelectiveScanPlain,
                 ScanCase(false).Row(Row({2, 35, 5, 4}, {false, false, false, false})));
RESIDUAL_OP_TEST(SelectiveScanPacked,
                 ScanCase(true).Row(Row({2, 37, 5, 4}, {true, true, true, true, true})));
RESIDUAL_OP_TEST(SelectiveScanGroups,
                 ScanCase(true).Row(Row({2, 6, 34, 5, 2}, {})).Row(Row({1, 4, 6, 2, 6}, {})));
RESIDUAL_OP_TEST(SelectiveScanConstant,
                 ScanCase(false)
                     .Row(Row({2, 9, 18, 4}, {true, true, true, true, false, true, true}))
                     .Row(Row({1, 34, 3, 5}, {true, false, false, true, true, true, false}))
                     .Row(Row({1, 5, 4, 2, 2}, {true, true, true, true, false, false, true})));

SelectiveScanInputs Inputs(int64_t batch, int64_t length, int64_t dim, int64_t state,
                           DType dtype = kF32) {
  SelectiveScanInputs in;
  const auto normal = [](const Shape& shape, uint64_t seed, DType type) {
    return RandomNormal(shape, seed, type);
  };
  const DType exact = dtype == kBF16 ? kF32 : dtype;
  in.u = normal({batch, length, dim}, 1, dtype);
  in.delta = normal({batch, length, dim}, 2, exact);
  in.A = Scale(Exp(normal({dim, state}, 3, exact)), -1);
  in.B = normal({batch, length, state}, 4, dtype);
  in.C = normal({batch, length, state}, 5, dtype);
  in.D = normal({dim}, 6, exact);
  in.z = normal({batch, length, dim}, 7, dtype);
  in.softplus = true;
  return in;
}

Tensor Positions(const Tensor& x, int64_t begin, int64_t end) {  // of a batch of one
  return x.Reshaped(x.shape().Without(0)).Rows(begin, end).Reshaped(x.shape().With(1, end - begin));
}

SelectiveScanInputs Part(SelectiveScanInputs in, int64_t begin, int64_t end) {
  for (Tensor* x : {&in.u, &in.delta, &in.B, &in.C, &in.z}) *x = Positions(*x, begin, end);
  return in;
}

class SelectiveScanTest : public EachTarget {};
RESIDUAL_EACH_TARGET(SelectiveScanTest);

TEST_P(SelectiveScanTest, AnyCutHasTheBitsOfTheWhole) {
  const SelectiveScanInputs in = Inputs(1, 70, 19, 16);
  const SelectiveScanResult whole = SelectiveScan(in);
  for (const int64_t cut : {1, 31, 32, 33, 69}) {
    SelectiveScanInputs first = Part(in, 0, cut), second = Part(in, cut, 70);
    const SelectiveScanResult begun = SelectiveScan(first);
    second.initial_state = begun.last_state;
    const SelectiveScanResult ended = SelectiveScan(second);
    ExpectIdentical(begun.y, Positions(whole.y, 0, cut), "first part");
    ExpectIdentical(ended.y, Positions(whole.y, cut, 70), "second part");
    ExpectIdentical(ended.last_state, whole.last_state, "last state");
  }
}

void ExpectStepsHaveTheBits(const SelectiveScanInputs& in) {
  const int64_t length = in.u.dim(1);
  const SelectiveScanResult whole = SelectiveScan(in);
  Tensor state;
  for (int64_t t = 0; t < length; ++t) {
    SelectiveScanInputs step = Part(in, t, t + 1);
    step.initial_state = state;
    const SelectiveScanResult result = SelectiveScan(step);
    ExpectIdentical(result.y, Positions(whole.y, t, t + 1), "step");
    state = result.last_state;
  }
  ExpectIdentical(state, whole.last_state, "last state");
}

TEST_P(SelectiveScanTest, StepsHaveTheBitsOfTheWhole) {
  ExpectStepsHaveTheBits(Inputs(1, 12, 33, 5, kBF16));
}

// States of whole vectors have a kernel of their own.
TEST_P(SelectiveScanTest, StepsOfWholeVectorsHaveTheBitsOfTheWhole) {
  for (const int64_t state : {4, 16, 32}) {
    ExpectStepsHaveTheBits(Inputs(1, 5, 37, state));
    SelectiveScanInputs in = Inputs(1, 5, 150, state, kBF16);
    in.softplus = false;  // factors above 1, where delta is negative
    ExpectStepsHaveTheBits(in);
  }
}

TEST_P(SelectiveScanTest, PackedSequencesAreTheSequences) {
  SelectiveScanInputs in = Inputs(1, 40, 8, 4);
  in.segments = Tensor::Zeros({1, 40}, kI64);
  for (int64_t i = 0; i < 40; ++i) in.segments.mutable_data<int64_t>()[i] = i < 7 ? 3 : i < 33;
  const Tensor packed = SelectiveScan(in).y;
  const std::vector<int64_t> cuts = {0, 7, 33, 40};
  for (int i = 0; i < 3; ++i) {
    SelectiveScanInputs alone = Part(in, cuts[i], cuts[i + 1]);
    alone.segments = Tensor();
    ExpectIdentical(SelectiveScan(alone).y, Positions(packed, cuts[i], cuts[i + 1]), "sequence");
  }
}

// exp(delta A) with delta of hundreds is 0, with A of 0 is 1; nothing is NaN on the way.
TEST_P(SelectiveScanTest, ExtremeStepsForgetAllOrNothing) {
  SelectiveScanInputs in = Inputs(1, 3, 2, 2);
  in.A = Tensor::Of<float>({2, 2}, {-1, -1e6, 0, -0.0});
  in.delta = Tensor::Full({1, 3, 2}, 500);
  in.u = Tensor::Of<float>({1, 3, 2}, {1, 1, 0, 0, 0, 0});
  in.B = Tensor::Full({1, 3, 2}, 1);
  const Tensor last = SelectiveScan(in).last_state;
  EXPECT_EQ(last.ToDoubles(), (std::vector<double>{0, 0, 500, 500}));
}

TEST_P(SelectiveScanTest, NaNStaysInItsChannel) {
  SelectiveScanInputs in = Inputs(1, 4, 18, 3);
  in.u.mutable_data<float>()[18 + 17] = std::nanf("");
  const std::vector<double> y = SelectiveScan(in).y.ToDoubles();
  for (int64_t i = 0; i < 4 * 18; ++i) EXPECT_EQ(std::isnan(y[i]), i % 18 == 17 && i >= 18) << i;
}

TEST(SelectiveScanDeathTest, SaysWhatDoesNotFit) {
  SelectiveScanInputs in = Inputs(1, 4, 6, 3);
  in.B = Tensor::Zeros({1, 4, 2});
  EXPECT_DEATH(SelectiveScan(in), "selective_scan.*f32\\[1, 4, 2\\]");
  in = Inputs(1, 4, 6, 3);
  in.delta = ConvertTo(in.delta, kF64);
  EXPECT_DEATH(SelectiveScan(in), "selective_scan.*f64\\[1, 4, 6\\]");
  in = Inputs(1, 4, 6, 3);
  in.B = Tensor::Zeros({1, 4, 4, 3});  // 6 channels in 4 groups
  EXPECT_DEATH(SelectiveScan(in), "selective_scan.*f32\\[1, 4, 4, 3\\]");
}

}  // namespace
}  // namespace residual
