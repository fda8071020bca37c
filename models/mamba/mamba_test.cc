#include "models/mamba/mamba.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "models/mamba/mamba2.h"
#include "ops/layout/layout.h"
#include "tensor/autograd/tape.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

using Numbers = std::vector<double>;

double Silu(double x) { return x / (1 + std::exp(-x)); }
double Softplus(double x) { return std::log1p(std::exp(x)); }

// A parameter by name, in double; zeros where the mixer has none.
class Values {
 public:
  explicit Values(Mixer& mixer) : parameters_(Parameters(mixer)) {}
  double At(const std::string& name, int64_t i) const {
    for (const Parameter& p : parameters_) {
      if (p.name == name) return p.value->data<double>()[i];
    }
    return 0;
  }

 private:
  std::vector<Parameter> parameters_;
};

// y_j = sum over i of x_i W_ij + b_j.
Numbers Project(const Values& v, const std::string& name, const Numbers& x, int64_t out) {
  Numbers y(out);
  for (int64_t j = 0; j < out; ++j) {
    y[j] = v.At(name + "_bias", j);
    for (size_t i = 0; i < x.size(); ++i) y[j] += x[i] * v.At(name, i * out + j);
  }
  return y;
}

// The convolution of a sequence [pos][channels], after SiLU.
std::vector<Numbers> Convolve(const Values& v, const std::vector<Numbers>& x, int64_t taps) {
  std::vector<Numbers> y = x;
  for (size_t t = 0; t < x.size(); ++t) {
    for (size_t c = 0; c < x[t].size(); ++c) {
      double sum = v.At("conv1d_bias", c);
      for (int64_t j = 0; j < taps; ++j) {
        const int64_t at = static_cast<int64_t>(t) - (taps - 1) + j;
        if (at >= 0) sum += v.At("conv1d", c * taps + j) * x[at][c];
      }
      y[t][c] = Silu(sum);
    }
  }
  return y;
}

Numbers Part(const Numbers& x, int64_t begin, int64_t size) {
  return Numbers(x.begin() + begin, x.begin() + begin + size);
}

// Rows [pos][n] of x [1, pos, n].
std::vector<Numbers> RowsOf(const Tensor& x) {
  std::vector<Numbers> rows;
  for (int64_t t = 0; t < x.dim(1); ++t)
    rows.push_back(Part(x.ToDoubles(), t * x.dim(2), x.dim(2)));
  return rows;
}

Numbers Joined(const std::vector<Numbers>& rows) {
  Numbers all;
  for (const Numbers& row : rows) all.insert(all.end(), row.begin(), row.end());
  return all;
}

// Gu and Dao 2023, algorithm 2 and figure 3, one number at a time.
Numbers Reference(MambaMixer& mixer, const Tensor& input) {
  const MambaConfig& c = mixer.config();
  const Values v(mixer);
  std::vector<Numbers> x, z;
  for (const Numbers& row : RowsOf(input)) {
    const Numbers xz = Project(v, "in_proj", row, 2 * c.d_inner);
    x.push_back(Part(xz, 0, c.d_inner));
    z.push_back(Part(xz, c.d_inner, c.d_inner));
  }
  x = Convolve(v, x, c.d_conv);
  Numbers h(c.d_inner * c.d_state);
  std::vector<Numbers> out;
  for (size_t t = 0; t < x.size(); ++t) {
    const Numbers selected = Project(v, "x_proj", x[t], c.dt_rank + 2 * c.d_state);
    const Numbers dt = Project(v, "dt_proj", Part(selected, 0, c.dt_rank), c.d_inner);
    Numbers y(c.d_inner);
    for (int64_t d = 0; d < c.d_inner; ++d) {
      const double delta = Softplus(dt[d]);
      y[d] = v.At("D", d) * x[t][d];
      for (int64_t n = 0; n < c.d_state; ++n) {
        double& state = h[d * c.d_state + n];
        state = std::exp(-delta * std::exp(v.At("A_log", d * c.d_state + n))) * state +
                delta * selected[c.dt_rank + n] * x[t][d];
        y[d] += selected[c.dt_rank + c.d_state + n] * state;
      }
      y[d] *= Silu(z[t][d]);
    }
    out.push_back(Project(v, "out_proj", y, c.d_model));
  }
  return Joined(out);
}

// Dao and Gu 2024, figure 6 and equation 2 with one rate for each head.
Numbers Reference(Mamba2Mixer& mixer, const Tensor& input) {
  const Mamba2Config& c = mixer.config();
  const Values v(mixer);
  const int64_t heads = mixer.n_heads(), of_groups = c.n_groups * c.d_state;
  std::vector<Numbers> z, xbc, dt;
  for (const Numbers& row : RowsOf(input)) {
    const Numbers all = Project(v, "in_proj", row, 2 * c.d_inner + 2 * of_groups + heads);
    z.push_back(Part(all, 0, c.d_inner));
    xbc.push_back(Part(all, c.d_inner, c.d_inner + 2 * of_groups));
    dt.push_back(Part(all, 2 * c.d_inner + 2 * of_groups, heads));
  }
  xbc = Convolve(v, xbc, c.d_conv);
  Numbers state(c.d_inner * c.d_state);
  std::vector<Numbers> out;
  for (size_t t = 0; t < xbc.size(); ++t) {
    Numbers y(c.d_inner);
    for (int64_t d = 0; d < c.d_inner; ++d) {
      const int64_t head = d / c.d_head, group = head / (heads / c.n_groups);
      const double delta =
          std::min(c.dt_high, std::max(c.dt_low, Softplus(dt[t][head] + v.At("dt_bias", head))));
      y[d] = v.At("D", head) * xbc[t][d];
      for (int64_t n = 0; n < c.d_state; ++n) {
        double& h = state[d * c.d_state + n];
        h = std::exp(-delta * std::exp(v.At("A_log", head))) * h +
            delta * xbc[t][c.d_inner + group * c.d_state + n] * xbc[t][d];
        y[d] += xbc[t][c.d_inner + of_groups + group * c.d_state + n] * h;
      }
      y[d] *= Silu(z[t][d]);
    }
    const int64_t width = c.d_inner / c.n_groups;
    for (int64_t group = 0; group < c.n_groups; ++group) {
      double square = 0;
      for (int64_t i = 0; i < width; ++i) square += y[group * width + i] * y[group * width + i];
      const double scale = 1 / std::sqrt(square / static_cast<double>(width) + c.eps);
      for (int64_t i = group * width; i < (group + 1) * width; ++i) y[i] *= scale * v.At("norm", i);
    }
    out.push_back(Project(v, "out_proj", y, c.d_model));
  }
  return Joined(out);
}

// Random values for every parameter, rates and steps kept sensible.
void Draw(Mixer& mixer) {
  for (const Parameter& p : Parameters(mixer)) {
    const bool rates = p.name == "A_log" || p.name == "dt_bias" || p.name == "dt_proj_bias";
    InitializeParameter({p.name, p.value, p.shape, Init::Normal(rates ? 0.5 : 0.7), p.options}, 1,
                        kF64);
  }
}

std::unique_ptr<MambaMixer> Mamba(bool bias) {
  MambaConfig c;
  c.d_model = 5;
  c.d_inner = 7;
  c.d_state = 3;
  c.d_conv = bias ? 4 : 2;
  c.dt_rank = 2;
  c.bias = bias;
  c.conv_bias = !bias;
  auto mixer = std::make_unique<MambaMixer>(c);
  Draw(*mixer);
  return mixer;
}

std::unique_ptr<Mamba2Mixer> Mamba2(bool options) {
  Mamba2Config c;
  c.d_model = 5;
  c.d_inner = 12;
  c.d_state = 3;
  c.d_head = 2;
  c.n_groups = options ? 1 : 3;
  c.bias = options;
  c.conv_bias = !options;
  if (options) {
    c.dt_low = 0.4;
    c.dt_high = 1.1;
  }
  auto mixer = std::make_unique<Mamba2Mixer>(c);
  Draw(*mixer);
  return mixer;
}

// Every mixer of the table, looked at or not, and fed in parts.
template <class M>
void ExpectTheFormula(std::unique_ptr<M> mixer) {
  const Tensor x = RandomNormal({1, 9, 5}, 2);
  const Tensor want = Tensor::Of<double>(x.shape(), Reference(*mixer, x));
  const MixerContext context;
  ExpectClose(mixer->Forward(x, context, nullptr, Scope()), want, 1e4, "out");
  for (const DeclaredHook& point : HookPoints(*mixer)) {
    Hooks hooks;
    int fired = 0;
    hooks.Read(point.name, [&](absl::string_view, const Tensor&) { ++fired; });
    ExpectClose(mixer->Forward(x, context, nullptr, Scope(&hooks)), want, 1e4, point.name);
    EXPECT_EQ(fired, 1) << point.name;
  }
  const auto state = mixer->NewState(1);
  size_t bytes = 0;
  for (const auto& [begin, end] :
       std::vector<std::pair<int64_t, int64_t>>{{0, 1}, {1, 6}, {6, 9}}) {
    ExpectClose(mixer->Forward(Slice(x, 1, begin, end), context, state.get(), Scope()),
                Slice(want, 1, begin, end), 1e4, "part");
    if (begin > 0) {
      EXPECT_EQ(state->bytes(), bytes);  // does not grow
    }
    bytes = state->bytes();
  }
}

TEST(MambaTest, IsTheFormula) {
  ExpectTheFormula(Mamba(false));
  ExpectTheFormula(Mamba(true));
}
TEST(Mamba2Test, IsTheFormula) {
  ExpectTheFormula(Mamba2(false));
  ExpectTheFormula(Mamba2(true));
}

// An edit of what is written goes on to later positions; one of a state does not.
TEST(MambaTest, EditsOfWritesGoOnAndThoseOfStatesDoNot) {
  const auto mixer = Mamba(false);
  const Tensor x = RandomNormal({1, 6, 5}, 2);
  const MixerContext context;
  const std::vector<double> plain = mixer->Forward(x, context, nullptr, Scope()).ToDoubles();
  for (const bool write : {false, true}) {
    Hooks hooks;
    hooks.Edit(write ? "hook_write" : "hook_state", [](absl::string_view, const Tensor& value) {
      Tensor edited = value.Clone();
      const int64_t n = edited.elements() / edited.dim(1);
      for (int64_t i = 2 * n; i < 3 * n; ++i) edited.mutable_data<double>()[i] += 1;
      return edited;
    });
    const auto state = mixer->NewState(1);
    const std::vector<double> y =
        mixer->Forward(x, context, state.get(), Scope(&hooks)).ToDoubles();
    for (int64_t t = 0; t < 6; ++t) {
      double moved = 0;
      for (int64_t i = 5 * t; i < 5 * t + 5; ++i) moved += std::abs(y[i] - plain[i]);
      if (t == 2 || (write && t > 2)) {
        EXPECT_GT(moved, 1e-3) << t;
      } else {
        EXPECT_LT(moved, 1e-12) << t;
      }
    }
  }
}

// Points that the fused path passes anyway cost nothing.
TEST(MambaTest, APointCostsItsOwnPathOnly) {
  const auto mixer = Mamba(false);
  const auto ops = [&](const char* name) {
    Tape tape;
    Tensor x = RandomNormal({1, 4, 5}, 2);
    tape.Watch(x);
    Hooks hooks;
    if (name != nullptr) hooks.Read(name, [](absl::string_view, const Tensor&) {});
    mixer->Forward(x, MixerContext(), nullptr, Scope(&hooks));
    return tape.size();
  };
  for (const char* name :
       {"hook_in_proj", "hook_conv", "hook_B", "hook_C", "hook_gate", "hook_out"})
    EXPECT_EQ(ops(name), ops(nullptr)) << name;
  EXPECT_LE(ops("hook_delta"), ops(nullptr) + 2);
  EXPECT_LE(ops("hook_y"), ops(nullptr) + 2);
  EXPECT_GT(ops("hook_state"), ops(nullptr) + 4);
}

TEST(MambaTest, StartsAsInThePaper) {
  MambaConfig c;
  c.d_model = 40;
  c.out_scale = 0.5;
  MambaMixer mixer(c);
  Initialize(mixer, 3);
  EXPECT_EQ(mixer.config().d_inner, 80);
  EXPECT_EQ(mixer.config().dt_rank, 3);
  for (int64_t i = 0; i < 80 * 16; ++i) {
    EXPECT_FLOAT_EQ(mixer.A_log().data<float>()[i], std::log(static_cast<float>(i % 16 + 1)));
  }
  double least = 1, most = 0;
  for (int64_t i = 0; i < 80; ++i) {
    const double step = Softplus(mixer.dt_bias().data<float>()[i]);
    EXPECT_GE(step, 0.00099);
    EXPECT_LE(step, 0.10001);
    least = std::min(least, step);
    most = std::max(most, step);
  }
  EXPECT_LT(least, 0.002);
  EXPECT_GT(most, 0.05);
  for (const Parameter& p : Parameters(mixer)) {
    const bool matrix = p.name == "in_proj" || p.name == "x_proj" || p.name == "dt_proj" ||
                        p.name == "out_proj" || p.name == "conv1d";
    EXPECT_EQ(p.options.weight_decay, matrix) << p.name;
    double largest = 0;
    for (const double value : p.value->ToDoubles()) largest = std::max(largest, std::abs(value));
    if (p.name == "out_proj") {
      EXPECT_NEAR(largest, 0.5 / std::sqrt(80), 1e-3);
    }
    if (p.name == "dt_proj") {
      EXPECT_NEAR(largest, 1 / std::sqrt(3), 0.02);
    }
    if (p.name == "D") {
      EXPECT_EQ(p.value->ToDoubles(), Numbers(80, 1));
    }
  }
}

TEST(ClampTest, KeepsWithinAndNaN) {
  const Tensor x = Tensor::Of<double>({5}, {-1, 0.25, 0.5, 7, std::nan("")});
  const std::vector<double> y = Clamp(x, 0.25, 2).ToDoubles();
  EXPECT_EQ(Part(y, 0, 4), (Numbers{0.25, 0.25, 0.5, 2}));
  EXPECT_TRUE(std::isnan(y[4]));
}

}  // namespace
}  // namespace residual
