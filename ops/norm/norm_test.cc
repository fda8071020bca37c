#include "ops/norm/norm.h"

#include <cmath>

#include "gtest/gtest.h"
#include "tensor/autograd/tape.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

constexpr double kEps = 1e-5;

struct Parts {
  Tensor normalized, scale;
};

Parts ReferenceParts(const Tensor& x, bool centred) {
  const int64_t n = x.dim(-1);
  Parts parts{Tensor::Uninitialized(x.shape(), kF64),
              Tensor::Uninitialized(x.shape().With(-1, 1), kF64)};
  const double* in = x.data<double>();
  double* out = parts.normalized.mutable_data<double>();
  double* scale = parts.scale.mutable_data<double>();
  for (int64_t r = 0; r < x.elements() / n; ++r) {
    double mean = 0, variance = 0;
    for (int64_t i = 0; centred && i < n; ++i) mean += in[r * n + i] / n;
    for (int64_t i = 0; i < n; ++i) variance += std::pow(in[r * n + i] - mean, 2) / n;
    scale[r] = std::sqrt(variance + kEps);
    for (int64_t i = 0; i < n; ++i) out[r * n + i] = (in[r * n + i] - mean) / scale[r];
  }
  return parts;
}

Tensor ReferenceNorm(const TensorList& x, bool centred) {
  Tensor y = ReferenceParts(x[0], centred).normalized;
  const int64_t n = x[0].dim(-1);
  double* out = y.mutable_data<double>();
  for (int64_t i = 0; i < y.elements(); ++i) {
    if (x[1].defined()) out[i] *= x[1].data<double>()[i % n];
    if (x.size() > 2 && x[2].defined()) out[i] += x[2].data<double>()[i % n];
  }
  return y;
}

const std::vector<Shape>& Shapes() {
  static const auto* shapes = new std::vector<Shape>{
      {0, 5}, {2, 3}, {5, 7}, {3, 15}, {3, 16}, {2, 2, 17}, {70, 33}, {3, 768}, {2, 1031}};
  return *shapes;
}

OpCase LayerNormCase() {
  OpCase op_case("layer_norm");
  op_case.Run([](const TensorList& x) { return TensorList{LayerNorm(x[0], x[1], x[2], kEps)}; })
      .Reference([](const TensorList& x) { return TensorList{ReferenceNorm(x, true)}; })
      .DTypes({kF32, kF64, kBF16})
      .Ulps(8, 64);
  for (const Shape& shape : Shapes()) op_case.Shapes({{shape, {shape[-1]}, {shape[-1]}}});
  op_case.Row({OpInput({3, 9}), OpInput(Tensor()), OpInput(Tensor())});
  return op_case;
}

OpCase RmsNormCase() {
  OpCase op_case("rms_norm");
  op_case.Run([](const TensorList& x) { return TensorList{RmsNorm(x[0], x[1], kEps)}; })
      .Reference([](const TensorList& x) { return TensorList{ReferenceNorm(x, false)}; })
      .DTypes({kF32, kF64, kBF16})
      .Ulps(8, 64);
  for (const Shape& shape : Shapes()) op_case.Shapes({{shape, {shape[-1]}}});
  return op_case;
}

OpCase PartsCase(bool centred) {
  OpCase op_case(centred ? "layer_norm_parts" : "rms_norm_parts");
  op_case
      .Run([centred](const TensorList& x) {
        const NormParts parts = centred ? LayerNormParts(x[0], kEps) : RmsNormParts(x[0], kEps);
        return TensorList{parts.normalized, parts.scale};
      })
      .Reference([centred](const TensorList& x) {
        const Parts parts = ReferenceParts(x[0], centred);
        return TensorList{parts.normalized, parts.scale};
      })
      .Ulps(8, 64);
  for (const Shape& shape : Shapes()) op_case.Shapes({{shape}});
  return op_case;
}

// Of a + b, with gradients of both outputs.
OpCase AddNormCase(bool centred) {
  OpCase op_case(centred ? "add_layer_norm" : "add_rms_norm");
  op_case
      .Run([centred](const TensorList& x) {
        const AddNorm y = centred ? AddLayerNorm(x[0], x[1], x[2], x[3], kEps)
                                  : AddRmsNorm(x[0], x[1], x[2], kEps);
        return TensorList{y.sum, y.normalized};
      })
      .Reference([centred](const TensorList& x) {
        Tensor sum = x[0].Clone();
        double* to = sum.mutable_data<double>();
        for (int64_t i = 0; i < sum.elements(); ++i) to[i] += x[1].data<double>()[i];
        TensorList normed = {sum, x[2]};
        if (centred) normed.push_back(x[3]);
        return TensorList{sum, ReferenceNorm(normed, centred)};
      })
      .DTypes({kF32, kF64})
      .Ulps(8, 64);
  for (const Shape& shape : Shapes()) {
    op_case.Shapes({centred ? std::vector<Shape>{shape, shape, {shape[-1]}, {shape[-1]}}
                            : std::vector<Shape>{shape, shape, {shape[-1]}}});
  }
  return op_case;
}

// Large enough to be written past the caches, in rows that are no multiple of a vector.
TEST(LayerNormTest, LargeResultsAreTheSame) {
  const int64_t rows = 5000, n = 1031;
  const Tensor a = RandomNormal({rows, n}, 1, kF32), b = RandomNormal({rows, n}, 2, kF32);
  const Tensor weight = RandomNormal({n}, 3, kF32), bias = RandomNormal({n}, 4, kF32);
  const Tensor dy = RandomNormal({rows, n}, 5, kF32);
  const auto run = [&](const Tensor& a, const Tensor& b, const Tensor& dy) {
    Tensor x = a;
    Tape tape;
    tape.Watch(x);
    const AddNorm y = AddLayerNorm(x, b, weight, bias, kEps);
    const Gradients grads = tape.Backward({y.sum, y.normalized}, {dy, dy}, {});
    const NoTape no_tape;
    return TensorList{y.sum, y.normalized, LayerNorm(y.sum, weight, bias, kEps), grads[x]};
  };
  const TensorList large = run(a, b, dy);
  for (int64_t r : {int64_t{0}, int64_t{1}, int64_t{17}, rows - 1}) {
    const auto row = [&](const Tensor& x) {
      return Tensor::Of<float>(
          {1, n}, std::vector<float>(x.data<float>() + r * n, x.data<float>() + (r + 1) * n));
    };
    const TensorList small = run(row(a), row(b), row(dy));
    for (size_t i = 0; i < small.size(); ++i) ExpectIdentical(row(large[i]), small[i], "a row");
  }
}

RESIDUAL_OP_TEST(AddLayerNorm, AddNormCase(true));
RESIDUAL_OP_TEST(AddRmsNorm, AddNormCase(false));
RESIDUAL_OP_TEST(LayerNorm, LayerNormCase());
RESIDUAL_OP_TEST(RmsNorm, RmsNormCase());
RESIDUAL_OP_TEST(LayerNormParts, PartsCase(true));
RESIDUAL_OP_TEST(RmsNormParts, PartsCase(false));

// sum x^2 - n mean^2 would have no correct digit here.
TEST(LayerNormTest, DoesNotCancelAtALargeMean) {
  const int64_t n = 768;
  Tensor x = RandomNormal({1, n}, 1, kF64);
  for (int64_t i = 0; i < n; ++i) x.mutable_data<double>()[i] += 1e4;
  const Tensor rounded = ConvertTo(x, kF32);
  const Tensor want = ReferenceParts(ConvertTo(rounded, kF64), true).normalized;
  const Tensor got = LayerNorm(rounded, Tensor(), Tensor(), kEps);
  for (int64_t i = 0; i < n; ++i) {
    EXPECT_NEAR(got.data<float>()[i], want.data<double>()[i], 2e-3);
  }
}

// The first elements say nothing of the others: sums of differences to them would lose 10 bits.
TEST(LayerNormTest, FirstElementsMayBeFarFromTheOthers) {
  const int64_t n = 1 << 16;
  Tensor x = RandomNormal({1, n}, 1, kF32);
  for (int64_t i = 0; i < 64; ++i) x.mutable_data<float>()[i] += 1e4f;
  const double want = ReferenceParts(ConvertTo(x, kF64), true).scale.data<double>()[0];
  EXPECT_NEAR(LayerNormParts(x, kEps).scale.data<float>()[0] / want, 1, 1e-6);
  const Tensor zero = Tensor::Zeros({1, n}), weight = Tensor::Full({n}, 1.0);
  const AddNorm sum = AddLayerNorm(x, zero, weight, Tensor::Zeros({n}), kEps);
  const Tensor alone = LayerNorm(x, weight, Tensor::Zeros({n}), kEps);
  ExpectIdentical(sum.normalized, alone, "of the sum with 0");
}

TEST(NormDeathTest, ShapeErrorsPrintOpAndShapes) {
  const Tensor x = Tensor::Zeros({2, 3}), w = Tensor::Zeros({4});
  EXPECT_DEATH(LayerNorm(x, w, w, kEps), "layer_norm: check failed.*f32\\[2, 3\\] f32\\[4\\]");
  EXPECT_DEATH(RmsNorm(Tensor::Zeros({2, 0}), Tensor(), kEps), "rms_norm: check failed");
}

}  // namespace
}  // namespace residual
