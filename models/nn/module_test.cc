#include "models/nn/module.h"

#include <cmath>

#include "gtest/gtest.h"
#include "models/nn/norm.h"
#include "tensor/autograd/tape.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

class Leaf : public Module {
 public:
  void Describe(Visitor& v) override {
    v.Param("W", W, {3, 2, 4}, Init::Normal(0.5), ParamOptions::HeadsFirst());
    v.Param("b", b, {4}, Init::Zeros(), ParamOptions::NoDecay());
    v.Param("u", u, {1000}, Init::Uniform(0.25));
    v.Hooks({{"hook_x", "[batch]"}});
  }
  Tensor W, b, u;
};

class Tree : public Module {
 public:
  void Describe(Visitor& v) override {
    v.Child("first", leaves[0]);
    v.Child("blocks", 7, leaves[1]);
  }
  Leaf leaves[2];
};

TEST(ModuleTest, ListsNamesOnceWithTheirPath) {
  Tree tree;
  const std::vector<Parameter> parameters = Parameters(tree);
  ASSERT_EQ(parameters.size(), 6);
  EXPECT_EQ(parameters[0].name, "first.W");
  EXPECT_EQ(parameters[4].name, "blocks.7.b");
  EXPECT_FALSE(parameters[4].options.weight_decay);
  EXPECT_EQ(HookPoints(tree)[1].name, "blocks.7.hook_x");
  EXPECT_EQ(CountParameters(tree), 2 * (24 + 4 + 1000));
}

TEST(ModuleTest, InitialValuesAreAFunctionOfSeedAndName) {
  Tree a, b, c;
  Initialize(a, 1);
  Initialize(b, 1);
  Initialize(c, 2);
  ExpectIdentical(a.leaves[0].W, b.leaves[0].W, "same seed");
  EXPECT_NE(a.leaves[0].W.ToDoubles(), c.leaves[0].W.ToDoubles());
  EXPECT_NE(a.leaves[0].W.ToDoubles(), a.leaves[1].W.ToDoubles());
  EXPECT_EQ(a.leaves[0].b.ToDoubles(), std::vector<double>(4, 0.0));
  double largest = 0;
  for (double x : a.leaves[0].u.ToDoubles()) largest = std::max(largest, std::abs(x));
  EXPECT_LE(largest, 0.25);
  EXPECT_GT(largest, 0.24);
}

TEST(ModuleTest, HeadsLieFirstOnDisk) {
  Tree tree;
  Initialize(tree, 1);
  const Parameter W = Parameters(tree)[0];
  EXPECT_EQ(DiskShape(W), (Shape{2, 3, 4}));
  const Tensor disk = ToDisk(W, *W.value);
  EXPECT_EQ(disk.shape(), (Shape{2, 3, 4}));
  // [d_model = 2][head = 1][3] in memory, [head = 1][d_model = 2][3] on disk.
  EXPECT_EQ(disk.data<float>()[1 * 12 + 2 * 4 + 3], W.value->data<float>()[2 * 8 + 1 * 4 + 3]);
  ExpectIdentical(FromDisk(W, disk), *W.value, "there and back");
}

TEST(NormTest, TheHookedPathIsTheFusedOne) {
  for (NormKind kind : {NormKind::kLayerNorm, NormKind::kRmsNorm}) {
    Norm norm(kind, 7, 1e-5);
    Initialize(norm, 3);
    const Tensor x = RandomNormal({2, 3, 7}, 5, kF32);
    Hooks hooks;
    Tensor scale, normalized;
    hooks.Read("hook_scale", [&](absl::string_view, const Tensor& s) { scale = s; });
    hooks.Read("hook_normalized", [&](absl::string_view, const Tensor& n) { normalized = n; });
    const Tensor fused = norm.Forward(x, Scope());
    ExpectClose(norm.Forward(x, Scope(&hooks)), ConvertTo(fused, kF64), 8, "hooked");
    EXPECT_EQ(scale.shape(), (Shape{2, 3, 1}));
    EXPECT_EQ(normalized.shape(), x.shape());
  }
}

TEST(NormTest, AnEditedScaleTakesEffect) {
  Norm norm(NormKind::kLayerNorm, 5, 1e-5);
  Initialize(norm, 3);
  const Tensor x = RandomNormal({1, 2, 5}, 5, kF32);
  Hooks hooks;
  hooks.Edit("hook_scale", [](absl::string_view, const Tensor& scale) {
    Tensor doubled = scale.Clone();
    for (int64_t i = 0; i < doubled.elements(); ++i) doubled.mutable_data<float>()[i] *= 2;
    return doubled;
  });
  const std::vector<double> plain = norm.Forward(x, Scope()).ToDoubles();
  const std::vector<double> halved = norm.Forward(x, Scope(&hooks)).ToDoubles();
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_NEAR(halved[i], plain[i] / 2, 1e-6);
}

}  // namespace
}  // namespace residual
