#include "models/mlp/mlp.h"

#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tensor/autograd/tape.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

constexpr int64_t kModel = 5, kMlp = 7;

double Act(double x, Activation activation) {
  switch (activation) {
    case Activation::kRelu:
      return std::max(x, 0.0);
    case Activation::kGelu:
      return x * (1 + std::erf(x / std::sqrt(2.0))) / 2;
    case Activation::kGeluTanh:
      return x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))) / 2;
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    default:
      ADD_FAILURE();
      return 0;
  }
}

// The formulas of mlp.h, one number at a time.
std::vector<double> Reference(const MlpMixer& m, const Tensor& x) {
  const MlpConfig& c = m.config();
  const auto at = [](const Tensor& t, int64_t i) { return t.defined() ? t.ToDoubles()[i] : 0; };
  std::vector<double> out;
  const int64_t rows = x.elements() / kModel;
  for (int64_t r = 0; r < rows; ++r) {
    std::vector<double> y(kModel);
    for (int64_t j = 0; j < kMlp; ++j) {
      double in = at(m.b_in(), j), gate = at(m.b_gate(), j);
      for (int64_t k = 0; k < kModel; ++k) {
        in += at(x, r * kModel + k) * at(m.W_in(), k * kMlp + j);
        gate += at(x, r * kModel + k) * at(m.W_gate(), k * kMlp + j);
      }
      const double post = c.gated ? Act(gate, c.activation) * in : Act(in, c.activation);
      for (int64_t k = 0; k < kModel; ++k) y[k] += post * at(m.W_out(), j * kModel + k);
    }
    for (int64_t k = 0; k < kModel; ++k) out.push_back(y[k] + at(m.b_out(), k));
  }
  return out;
}

class MlpTest : public testing::TestWithParam<std::tuple<Activation, bool, bool>> {
 protected:
  void SetUp() override {
    MlpConfig config;
    config.d_model = kModel;
    config.d_mlp = kMlp;
    config.activation = std::get<0>(GetParam());
    config.gated = std::get<1>(GetParam());
    config.bias = config.gate_bias = std::get<2>(GetParam());
    mixer_ = std::make_unique<MlpMixer>(config);
    for (const Parameter& p : Parameters(*mixer_)) {
      InitializeParameter({p.name, p.value, p.shape, Init::Normal(0.7), p.options}, 1, kF64);
    }
  }
  Tensor Forward(Hooks* hooks = nullptr) const {
    return mixer_->Forward(x_, MixerContext(), nullptr, Scope(hooks));
  }
  std::unique_ptr<MlpMixer> mixer_;
  const Tensor x_ = RandomNormal({2, 3, kModel}, 2);
};

INSTANTIATE_TEST_SUITE_P(Kinds, MlpTest,
                         testing::Combine(testing::Values(Activation::kRelu, Activation::kGelu,
                                                          Activation::kGeluTanh, Activation::kSilu),
                                          testing::Bool(), testing::Bool()));

TEST_P(MlpTest, IsTheFormulaLookedAtOrNot) {
  const Tensor want = Tensor::Of<double>(x_.shape(), Reference(*mixer_, x_));
  ExpectClose(Forward(), want, 1e3, "out");
  for (const DeclaredHook& hook : HookPoints(*mixer_)) {
    Hooks hooks;
    int fired = 0;
    hooks.Read(hook.name, [&](absl::string_view, const Tensor& t) {
      ++fired;
      EXPECT_EQ(t.shape(), Shape({2, 3, kMlp}));
    });
    ExpectClose(Forward(&hooks), want, 1e3, hook.name);
    EXPECT_EQ(fired, 1) << hook.name;
  }
}

TEST_P(MlpTest, EditsTakeEffect) {
  const std::vector<double> before = Forward().ToDoubles();
  for (const DeclaredHook& hook : HookPoints(*mixer_)) {
    Hooks hooks;
    hooks.Edit(hook.name, [](absl::string_view, const Tensor& x) {
      return Tensor::Full(x.shape(), 0.5, x.dtype());
    });
    EXPECT_NE(Forward(&hooks).ToDoubles(), before) << hook.name;
  }
}

// Only hook_pre takes the activation out of the product's epilogue; the others cost nothing.
TEST_P(MlpTest, APointCostsItsOwnPathOnly) {
  const auto ops = [&](const char* name) {
    Tape tape;
    Tensor x = x_;
    tape.Watch(x);
    Hooks hooks;
    if (name != nullptr) hooks.Read(name, [](absl::string_view, const Tensor&) {});
    mixer_->Forward(x, MixerContext(), nullptr, Scope(&hooks));
    return tape.size();
  };
  const bool gated = mixer_->config().gated;
  EXPECT_EQ(ops("hook_post"), ops(nullptr));
  EXPECT_LE(ops("hook_pre"), ops(nullptr) + (gated ? 0 : 1));
  if (gated) {
    EXPECT_EQ(ops("hook_pre_linear"), ops(nullptr));
  }
}

}  // namespace
}  // namespace residual
