#include "models/s4/mixer/s4.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <string>
#include <vector>

#include "Eigen/Dense"
#include "gtest/gtest.h"
#include "models/s4/mixer/whole_output.h"
#include "ops/layout/layout.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

using Complex = std::complex<double>;
using Eigen::MatrixXcd;
using Eigen::VectorXcd;

// A parameter by name, in double.
class Values {
 public:
  explicit Values(Mixer& mixer) {
    for (const Parameter& p : Parameters(mixer)) values_.emplace_back(p.name, p.value->ToDoubles());
  }
  bool Has(const std::string& name) const { return Find(name) != nullptr; }
  double At(const std::string& name, int64_t i) const { return (*Find(name))[i]; }
  Complex ComplexAt(const std::string& name, int64_t i) const {
    return {At(name, 2 * i), At(name, 2 * i + 1)};
  }

 private:
  const std::vector<double>* Find(const std::string& name) const {
    for (const auto& [known, values] : values_) {
      if (known == name) return &values;
    }
    return nullptr;
  }
  std::vector<std::pair<std::string, std::vector<double>>> values_;
};

// The system of one channel with all N states, conjugates too, as dense matrices: x_t = A_bar
// x_(t-1) + B_bar u_t, y_t = C x_t.
struct Dense {
  MatrixXcd A;
  VectorXcd B, C;
};
Dense DenseSystem(S4Mixer& mixer, const Values& v, int64_t h, const std::string& output) {
  const S4Config& c = mixer.config();
  const int64_t half = c.d_state / 2, n = c.d_state, rank = S4Rank(c.kind, c.init);
  const MatrixXcd I = MatrixXcd::Identity(n, n);
  MatrixXcd A = MatrixXcd::Zero(n, n), P(n, rank);
  VectorXcd B(n), C(n);
  for (int64_t m = 0; m < half; ++m) {
    const int64_t at = h * half + m;
    A(m, m) = Complex(-std::exp(v.At("log_A_real", at)), v.At("A_imag", at));
    B[m] = v.ComplexAt("B", at);
    C[m] = v.ComplexAt(output, at);
    for (int64_t i = 0; i < rank; ++i) P(m, i) = v.ComplexAt("P", (h * rank + i) * half + m);
    A(half + m, half + m) = std::conj(A(m, m));
    B[half + m] = std::conj(B[m]);
    C[half + m] = std::conj(C[m]);
    for (int64_t i = 0; i < rank; ++i) P(half + m, i) = std::conj(P(m, i));
  }
  A -= P * P.adjoint();
  const double dt = std::exp(v.At("log_dt", h)), L = static_cast<double>(c.length);
  Dense dense{MatrixXcd::Zero(n, n), VectorXcd(n), C};
  if (c.kind == S4Kind::kS4 || c.discretization == Discretization::kBilinear) {
    const MatrixXcd inverse = (I - dt / 2 * A).inverse();
    dense.A = inverse * (I + dt / 2 * A);
    dense.B = inverse * (dt * B);
  } else {
    for (int64_t m = 0; m < n; ++m) {
      const Complex a = A(m, m), z = std::exp(dt * a);
      dense.A(m, m) = z;
      dense.B[m] = (z - 1.0) / a * B[m];
      // e^(l dt a) over the sum of them all, times 1/a.
      if (c.kind == S4Kind::kDss) dense.B[m] /= std::exp(L * dt * a) - 1.0;
    }
  }
  if (c.kind == S4Kind::kS4) {
    MatrixXcd power = I;
    for (int64_t l = 0; l < c.length; ++l) power *= dense.A;
    dense.C = (I - power).transpose().partialPivLu().solve(C);
  }
  return dense;
}

// The kernel of a channel, from its dense system.
std::vector<double> KernelOf(const Dense& dense, int64_t length) {
  std::vector<double> K;
  VectorXcd x = dense.B;
  for (int64_t l = 0; l < length; ++l) {
    K.push_back((dense.C.transpose() * x)(0).real());
    x = dense.A * x;
  }
  return K;
}

// The layer one number at a time; u: [1, pos, d_model].
std::vector<double> Reference(S4Mixer& mixer, const Tensor& u) {
  const S4Config& c = mixer.config();
  const Values v(mixer);
  const int64_t pos = u.dim(1), H = c.d_model;
  const std::vector<double> in = u.ToDoubles();
  std::vector<double> g(pos * H), out(pos * H);
  for (int64_t h = 0; h < H; ++h) {
    const std::vector<double> K = KernelOf(DenseSystem(mixer, v, h, "C"), pos);
    std::vector<double> back(pos);
    if (c.bidirectional) back = KernelOf(DenseSystem(mixer, v, h, "C_reverse"), pos);
    const int64_t shift = c.reverse_from_next ? 1 : 0;
    for (int64_t t = 0; t < pos; ++t) {
      double y = v.At("D", h) * in[t * H + h];
      for (int64_t s = 0; s <= t; ++s) y += K[s] * in[(t - s) * H + h];
      for (int64_t s = 0; t + s + shift < pos; ++s) y += back[s] * in[(t + s + shift) * H + h];
      g[t * H + h] = y * (1 + std::erf(y / std::sqrt(2.0))) / 2;
    }
  }
  for (int64_t t = 0; t < pos; ++t) {
    for (int64_t j = 0; j < H; ++j) {
      double sum = v.At("out_proj_bias", j), gate = c.gated ? v.At("gate_proj_bias", j) : 0;
      for (int64_t i = 0; i < H; ++i) {
        sum += g[t * H + i] * v.At("out_proj", i * H + j);
        if (c.gated) gate += g[t * H + i] * v.At("gate_proj", i * H + j);
      }
      out[t * H + j] = c.gated ? sum / (1 + std::exp(-gate)) : sum;
    }
  }
  return out;
}

struct Variant {
  std::string name;
  S4Config config;
};
std::vector<Variant> Variants() {
  std::vector<Variant> variants;
  const auto add = [&](std::string name, S4Kind kind, S4Init init,
                       Discretization discretization = Discretization::kZoh) {
    S4Config c;
    c.d_model = 3;
    c.d_state = 16;
    c.kind = kind;
    c.init = init;
    c.discretization = discretization;
    c.length = 61;
    c.dt_min = 0.005;
    c.dt_max = 0.2;
    variants.push_back({name, c});
  };
  add("S4LegS", S4Kind::kS4, S4Init::kLegS);
  add("S4LegT", S4Kind::kS4, S4Init::kLegT);
  add("S4Fourier", S4Kind::kS4, S4Init::kFourier);
  add("S4Random", S4Kind::kS4, S4Init::kRandom);
  for (const S4Init init : {S4Init::kLegS, S4Init::kLin, S4Init::kInv, S4Init::kQuad, S4Init::kReal,
                            S4Init::kRandom, S4Init::kRandomLin}) {
    add(std::string("S4D_") + S4InitName(init), S4Kind::kS4D, init);
  }
  add("S4DBilinear", S4Kind::kS4D, S4Init::kLin, Discretization::kBilinear);
  add("Dss", S4Kind::kDss, S4Init::kLegS);
  variants.back().config.gated = false;
  return variants;
}

class S4VariantTest : public testing::TestWithParam<Variant> {};
INSTANTIATE_TEST_SUITE_P(S4, S4VariantTest, testing::ValuesIn(Variants()),
                         [](const auto& info) { return info.param.name; });

void ExpectNear(const std::vector<double>& got, const std::vector<double>& want, double tolerance,
                const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  double largest = 0;
  for (const double x : want) largest = std::max(largest, std::abs(x));
  ASSERT_GT(largest, 0) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], want[i], tolerance * largest) << what << ", element " << i;
  }
}

Tensor Apply(const S4Mixer& mixer, const Tensor& x, MixerState* state = nullptr,
             Hooks* hooks = nullptr) {
  return mixer.Forward(x, MixerContext(), state, Scope(hooks));
}

TEST_P(S4VariantTest, IsTheEquations) {
  S4Mixer mixer(GetParam().config);
  Initialize(mixer, 3, kF64);
  for (const int64_t pos : {1, 2, 7, 61}) {
    const Tensor x = RandomNormal({1, pos, 3}, 10 + pos);
    // DSS guards its reciprocal with 1e-7, which the reference does not.
    const double tolerance = GetParam().config.kind == S4Kind::kDss ? 1e-5 : 1e-9;
    ExpectNear(Apply(mixer, x).ToDoubles(), Reference(mixer, x), tolerance, "convolution");
    const auto state = mixer.NewState(1);
    ExpectNear(Apply(mixer, x, state.get()).ToDoubles(), Reference(mixer, x), tolerance,
               "recurrence");
  }
}

// The paper's size and a length that is no power of two, in f32; whole, in chunks and one by one.
TEST_P(S4VariantTest, ConvolutionAndRecurrenceAreEqual) {
  S4Config c = GetParam().config;
  c.d_model = 8;
  c.d_state = 64;
  c.length = 784;
  c.dt_min = 0.001;
  c.dt_max = 0.1;
  S4Mixer mixer(c);
  Initialize(mixer, 4);
  const Tensor x = RandomNormal({2, 784, 8}, 6, kF32);
  const std::vector<double> whole = Apply(mixer, x).ToDoubles();
  for (const int64_t chunk : {784, 100, 1}) {
    const auto state = mixer.NewState(2);
    TensorList parts;
    for (int64_t t = 0; t < 784; t += chunk) {
      parts.push_back(Apply(mixer, Slice(x, 1, t, std::min<int64_t>(784, t + chunk)), state.get()));
    }
    ExpectNear(Concat(parts, 1).ToDoubles(), whole, 1e-5, "chunks of " + std::to_string(chunk));
  }
}

TEST_P(S4VariantTest, StatesAreThoseOfTheRecurrence) {
  S4Mixer mixer(GetParam().config);
  Initialize(mixer, 3, kF64);
  const Tensor x = RandomNormal({2, 9, 3}, 8);
  Tensor convolved, stepped;
  Hooks a, b;
  a.Read("hook_state", [&](absl::string_view, const Tensor& states) { convolved = states; });
  b.Read("hook_state", [&](absl::string_view, const Tensor& states) { stepped = states; });
  const auto state = mixer.NewState(2);
  ExpectNear(Apply(mixer, x, nullptr, &a).ToDoubles(), Apply(mixer, x, state.get(), &b).ToDoubles(),
             1e-9, "output");
  ASSERT_EQ(convolved.shape(), Shape({2, 9, 3, 8, 2}));
  ExpectNear(convolved.ToDoubles(), stepped.ToDoubles(), 1e-9, "states");
  // What is forked goes on by itself.
  const auto fork = state->Fork();
  const Tensor next = RandomNormal({2, 1, 3}, 9);
  Apply(mixer, RandomNormal({2, 4, 3}, 11), fork.get());
  ExpectNear(Apply(mixer, next, state.get()).ToDoubles(),
             Slice(Apply(mixer, Concat({x, next}, 1)), 1, 9, 10).ToDoubles(), 1e-9, "after a fork");
}

TEST(S4Test, BothDirectionsWithAndWithoutTheReferencesShift) {
  for (const S4Kind kind : {S4Kind::kS4, S4Kind::kS4D, S4Kind::kDss}) {
    for (const bool shift : {false, true}) {
      S4Config c;
      c.d_model = 2;
      c.d_state = 8;
      c.kind = kind;
      c.length = 20;
      c.dt_min = 0.05;
      c.bidirectional = true;
      c.reverse_from_next = shift;
      S4Mixer mixer(c);
      EXPECT_FALSE(mixer.causal());
      Initialize(mixer, 3, kF64);
      for (const int64_t pos : {1, 20}) {
        const Tensor x = RandomNormal({1, pos, 2}, 8);
        ExpectNear(Apply(mixer, x).ToDoubles(), Reference(mixer, x), 1e-6, "both directions");
      }
    }
  }
}

// y = M u + D u, and what is kept is the slowest |A_bar|.
TEST(S4Test, TokenMapsAreTheConvolution) {
  for (const bool both : {false, true}) {
    S4Config c;
    c.d_model = 3;
    c.d_state = 8;
    c.dt_min = 0.05;
    c.bidirectional = both;
    c.reverse_from_next = both;
    S4Mixer mixer(c);
    Initialize(mixer, 3);
    const Tensor u = RandomNormal({2, 7, 3}, 8, kF32);
    TensorList made_of;
    Hooks hooks;
    for (const HookPoint& point : mixer.token_map_kind().made_of) {
      hooks.Read(point.name, [&](absl::string_view, const Tensor& x) { made_of.push_back(x); });
    }
    Apply(mixer, u, nullptr, &hooks);
    // Read in the order in which they fire: y last.
    std::rotate(made_of.begin(), made_of.end() - 1, made_of.end());
    const std::vector<int64_t> units = {2, 0};
    const Tensor maps = mixer.TokenMaps(made_of, units);
    ASSERT_EQ(maps.shape(), Shape({2, 2, 7, 7}));
    const Values v(mixer);
    for (int64_t row = 0; row < 2; ++row) {
      for (int64_t i = 0; i < 2; ++i) {
        for (int64_t q = 0; q < 7; ++q) {
          double y = v.At("D", units[i]) * u.ToDoubles()[(row * 7 + q) * 3 + units[i]];
          for (int64_t k = 0; k < 7; ++k) {
            y += maps.ToDoubles()[((row * 2 + i) * 7 + q) * 7 + k] *
                 u.ToDoubles()[(row * 7 + k) * 3 + units[i]];
          }
          EXPECT_NEAR(made_of[0].ToDoubles()[(row * 7 + q) * 3 + units[i]], y, 1e-4);
        }
      }
    }
    const Retention memory = mixer.MemoryOf(made_of);
    ASSERT_EQ(memory.kept.shape(), Shape({2, 7, 3}));
    // All modes of LegS decay at the rate 1/2.
    EXPECT_NEAR(memory.kept.ToDoubles()[1], std::exp(-std::exp(v.At("log_dt", 1)) / 2), 1e-6);
  }
}

TEST(S4Test, WholeOutputUndoesTruncation) {
  const S4Start start = MakeS4Start(S4Kind::kS4, S4Init::kLegT, 10, 0, 0);
  Tensor A = Tensor::Uninitialized({5, 2}, kF64), P = Tensor::Uninitialized({2, 5, 2}, kF64);
  for (int64_t n = 0; n < 5; ++n) {
    A.mutable_data<double>()[2 * n] = start.A[n].real();
    A.mutable_data<double>()[2 * n + 1] = start.A[n].imag();
  }
  for (int64_t i = 0; i < 10; ++i) {
    P.mutable_data<double>()[2 * i] = start.P(i % 5, i / 5).real();
    P.mutable_data<double>()[2 * i + 1] = start.P(i % 5, i / 5).imag();
  }
  const Tensor dt = Tensor::Of<double>({3}, {0.01, 0.1, 0.5}), C = RandomNormal({3, 5, 2}, 1);
  for (const int64_t length : {1, 2, 3, 37, 64}) {
    const DiscreteSsm ssm = DiscretizeDplr(A, P, P, A, TruncatedOutput(A, P, P, C, dt, length), dt);
    ExpectNear(WholeOutput(ssm, length).ToDoubles(), C.ToDoubles(), 1e-9,
               std::to_string(length) + " positions");
  }
}

TEST(S4Test, MatricesAndStepsLearnSlowlyAndDoNotDecay) {
  S4Config c;
  c.d_model = 2;
  c.kind = S4Kind::kS4;
  c.length = 4;
  S4Mixer mixer(c);
  for (const Parameter& p : Parameters(mixer)) {
    const bool of_system = p.name == "log_A_real" || p.name == "A_imag" || p.name == "P" ||
                           p.name == "B" || p.name == "log_dt";
    EXPECT_EQ(p.options.most_lr, of_system ? 1e-3 : 0) << p.name;
    EXPECT_EQ(p.options.weight_decay, !of_system && p.name.find("bias") == std::string::npos)
        << p.name;
    EXPECT_EQ(p.options.lr_scale, 1) << p.name;
  }
  c.learn_state = false;
  S4Mixer fixed(c);
  for (const Parameter& p : Parameters(fixed)) {
    const bool matrix =
        p.name == "log_A_real" || p.name == "A_imag" || p.name == "P" || p.name == "B";
    EXPECT_EQ(p.options.lr_scale, matrix ? 0 : 1) << p.name;
  }
}

TEST(S4Test, RandomMatricesDecayAndDifferBetweenLayersAndSeeds) {
  const S4Start one = MakeS4Start(S4Kind::kS4D, S4Init::kRandom, 64, 1, 0);
  EXPECT_LT(one.A.real().maxCoeff(), 0);
  EXPECT_LT(one.A.imag().cwiseAbs().maxCoeff(), 3);  // no fast oscillation
  EXPECT_NE(one.A, MakeS4Start(S4Kind::kS4D, S4Init::kRandom, 64, 2, 0).A);
  EXPECT_NE(one.A, MakeS4Start(S4Kind::kS4D, S4Init::kRandom, 64, 1, 1).A);
  EXPECT_EQ(one.A, MakeS4Start(S4Kind::kS4D, S4Init::kRandom, 64, 1, 0).A);
  EXPECT_EQ(MakeS4Start(S4Kind::kS4, S4Init::kRandom, 64, 1, 0).P.cols(), 1);
}

TEST(S4Test, NamesGoBothWaysAndUnknownOnesAreNamed) {
  for (const std::string& name : S4InitNames()) EXPECT_EQ(S4InitName(*ParseS4Init(name)), name);
  EXPECT_EQ(std::string(ParseS4Init("legz").status().message()),
            "unknown init 'legz', expected one of legs, legt, fourier, lin, inv, quad, real, "
            "random, random_lin");
}

TEST(S4Test, SaysWhatAConfigShouldBe) {
  const auto message = [](auto change) {
    S4Config c;
    c.d_model = 2;
    c.length = 4;
    change(c);
    return std::string(ValidateS4Config(c).message());
  };
  EXPECT_EQ(message([](S4Config&) {}), "");
  EXPECT_EQ(message([](S4Config& c) { c.d_state = 7; }),
            "'d_state' is 7, expected an even number in [2, 4096]: states come as pairs of "
            "conjugates");
  EXPECT_EQ(message([](S4Config& c) { c.init = S4Init::kLegT; }),
            "'s4_init' is \"legt\", expected one of those of s4d: legs, lin, inv, quad, real, "
            "random, random_lin");
  EXPECT_EQ(message([](S4Config& c) {
              c.kind = S4Kind::kS4;
              c.length = 0;
            }),
            "'s4_length' is 0, expected at least 1: the parameters of s4 depend on the longest "
            "sequence");
  EXPECT_EQ(message([](S4Config& c) { c.dt_min = 1; }),
            "'dt_min' is 1, expected a number in (0, dt_max], 'dt_max' being 0.1");
  EXPECT_EQ(message([](S4Config& c) { c.dropout = 1; }),
            "'s4_dropout' is 1, expected a number in [0, 1)");
}

}  // namespace
}  // namespace residual
