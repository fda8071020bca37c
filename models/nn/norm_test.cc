#include "models/nn/norm.h"

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tensor/autograd/tape.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

constexpr int64_t kModel = 6;

class NormTest : public testing::TestWithParam<NormKind> {
 protected:
  void SetUp() override {
    norm_ = Norm(GetParam(), kModel, 0.01);
    for (const Parameter& p : Parameters(norm_)) {
      InitializeParameter({p.name, p.value, p.shape, Init::Normal(1), p.options}, 1, kF64);
    }
  }
  Tensor Forward(Hooks* hooks = nullptr) const { return norm_.Forward(x_, Scope(hooks)); }
  bool layer_norm() const { return GetParam() == NormKind::kLayerNorm; }

  Norm norm_;
  const Tensor x_ = RandomNormal({2, 3, kModel}, 2);
};

INSTANTIATE_TEST_SUITE_P(Kinds, NormTest,
                         testing::Values(NormKind::kLayerNorm, NormKind::kRmsNorm));

TEST_P(NormTest, IsTheFormulaAtEveryPoint) {
  const std::vector<double> x = x_.ToDoubles(), w = norm_.w().ToDoubles();
  std::vector<double> scale, normalized, out;
  for (int64_t r = 0; r < 6; ++r) {
    double mean = 0, square = 0;
    for (int64_t i = 0; i < kModel; ++i) mean += layer_norm() ? x[r * kModel + i] / kModel : 0;
    for (int64_t i = 0; i < kModel; ++i) square += std::pow(x[r * kModel + i] - mean, 2) / kModel;
    scale.push_back(std::sqrt(square + 0.01));
    for (int64_t i = 0; i < kModel; ++i) {
      normalized.push_back((x[r * kModel + i] - mean) / scale.back());
      out.push_back(normalized.back() * w[i] + (layer_norm() ? norm_.b().ToDoubles()[i] : 0));
    }
  }
  const Tensor want = Tensor::Of<double>(x_.shape(), out);
  ExpectClose(Forward(), want, 100, "out");
  const std::map<std::string, Tensor> expected = {
      {"hook_in", x_},
      {"hook_scale", Tensor::Of<double>({2, 3, 1}, scale)},
      {"hook_normalized", Tensor::Of<double>(x_.shape(), normalized)},
      {"hook_out", want}};
  ASSERT_EQ(HookPoints(norm_).size(), expected.size());
  for (const auto& [name, value] : expected) {
    Hooks hooks;
    int fired = 0;
    hooks.Read(name, [&, &value = value](absl::string_view point, const Tensor& t) {
      ++fired;
      ExpectClose(t, value, 100, std::string(point));
    });
    ExpectClose(Forward(&hooks), want, 100, name);
    EXPECT_EQ(fired, 1) << name;
  }
}

// An edited denominator divides; a normalized stream that is edited goes on to gain and bias.
TEST_P(NormTest, EditsTakeEffect) {
  const std::vector<double> before = Forward().ToDoubles();
  Hooks frozen;
  frozen.Edit("hook_scale", [](absl::string_view, const Tensor& x) {
    return Tensor::Full(x.shape(), 2, x.dtype());
  });
  Tensor scale;
  Hooks reading;
  reading.Read("hook_scale", [&](absl::string_view, const Tensor& t) { scale = t; });
  Forward(&reading);
  const std::vector<double> after = Forward(&frozen).ToDoubles(), s = scale.ToDoubles();
  for (size_t i = 0; i < after.size(); ++i) {
    const double b = layer_norm() ? norm_.b().ToDoubles()[i % kModel] : 0;
    EXPECT_NEAR(after[i], (before[i] - b) * s[i / kModel] / 2 + b, 1e-9);
  }
  for (const char* point : {"hook_in", "hook_normalized", "hook_out"}) {
    Hooks hooks;
    hooks.Edit(point,
               [](absl::string_view, const Tensor& x) { return RandomNormal(x.shape(), 7); });
    EXPECT_NE(Forward(&hooks).ToDoubles(), before) << point;
  }
}

TEST_P(NormTest, OnlyWhatIsInsideTakesTheLongWay) {
  const auto ops = [&](const char* name) {
    Tape tape;
    Tensor x = x_;
    tape.Watch(x);
    Hooks hooks;
    if (name != nullptr) hooks.Read(name, [](absl::string_view, const Tensor&) {});
    norm_.Forward(x, Scope(&hooks));
    return tape.size();
  };
  EXPECT_EQ(ops(nullptr), 1);
  EXPECT_EQ(ops("hook_in"), 1);
  EXPECT_EQ(ops("hook_out"), 1);
  EXPECT_GT(ops("hook_scale"), 1);
  EXPECT_GT(ops("hook_normalized"), 1);
}

TEST(NoNormTest, IsTheInputItselfAndDeclaresNothing) {
  Norm norm(NormKind::kNone, kModel, 1e-5);
  const Tensor x = RandomNormal({1, 2, kModel}, 2);
  EXPECT_EQ(norm.Forward(x, Scope()).raw_data(), x.raw_data());
  EXPECT_TRUE(HookPoints(norm).empty());
  EXPECT_TRUE(Parameters(norm).empty());
}

}  // namespace
}  // namespace residual
