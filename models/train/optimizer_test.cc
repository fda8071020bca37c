#include "models/train/optimizer.h"

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/train/schedule.h"
#include "nlohmann/json.hpp"
#include "ops/optimizer/optimizer.h"
#include "tensor/io/file.h"
#include "tensor/io/safetensors.h"

namespace residual {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kFolder[] = "models/train/testdata/optim/";

// Parameters "p0", "p1", ... of these values; those with odd numbers have no weight decay.
class Values : public Module {
 public:
  Values(std::vector<Tensor> values, bool some_without_decay)
      : values_(std::move(values)), some_without_decay_(some_without_decay) {}
  void Describe(Visitor& v) override {
    for (size_t i = 0; i < values_.size(); ++i) {
      const ParamOptions options =
          some_without_decay_ && i % 2 == 1 ? ParamOptions::NoDecay() : ParamOptions();
      v.Param(absl::StrCat("p", i).c_str(), values_[i], values_[i].shape(), Init::Zeros(), options);
    }
  }
  Tensor& operator[](size_t i) { return values_[i]; }

 private:
  std::vector<Tensor> values_;
  bool some_without_decay_;
};

struct Golden {
  json cases = json::parse(ReadFile(std::string(kFolder) + "case.json").value());
  SafetensorsFile inputs =
      SafetensorsFile::Open(std::string(kFolder) + "inputs.safetensors").value();
  SafetensorsFile expected =
      SafetensorsFile::Open(std::string(kFolder) + "expected.safetensors").value();
};

std::vector<std::string> SetupNames() {
  std::vector<std::string> names;
  const Golden golden;
  for (const auto& [name, setup] : golden.cases["setups"].items()) names.push_back(name);
  return names;
}

OptimizerConfig ConfigOf(const json& setup) {
  OptimizerConfig config;
  config.kind = setup["class"] == "SGD"     ? OptimizerKind::kSgd
                : setup["class"] == "AdamW" ? OptimizerKind::kAdamW
                                            : OptimizerKind::kAdam;
  if (setup.contains("betas")) {
    config.beta1 = setup["betas"][0];
    config.beta2 = setup["betas"][1];
  }
  config.eps = setup.value("eps", 1e-8);
  config.weight_decay = setup.value("weight_decay", 0.0);
  config.amsgrad = setup.value("amsgrad", false);
  config.momentum = setup.value("momentum", 0.0);
  config.dampening = setup.value("dampening", 0.0);
  config.nesterov = setup.value("nesterov", false);
  return config;
}

Schedule ScheduleOf(const json& setup) {
  const std::string text = setup.value("schedule", "");
  Schedule schedule;
  schedule.lr = setup["lr"];
  schedule.kind = text.find("cosine") != text.npos   ? ScheduleKind::kCosine
                  : text.find("linear") != text.npos ? ScheduleKind::kLinear
                  : text.find("lr_t") != text.npos   ? ScheduleKind::kNoam
                                                     : ScheduleKind::kConstant;
  schedule.warmup_steps = setup.value("warmup", 0);
  schedule.total_steps = setup.value("total_steps", 0);
  schedule.d_model = 64;
  return schedule;
}

// The stored gradients were clipped in place, to norm 1, by the setup that clips; those before it
// used them as they were, the three with schedules as stored. What the clipping took at a step is
// one factor, which the plain SGD trajectory shows: start - end = lr * factor * gradient.
double FactorOf(const Golden& golden, int64_t step) {
  double moved = 0, squares = 0;
  for (const char* i : {"0", "1"}) {
    const Tensor trajectory = golden.expected.Read(absl::StrCat("sgd.param.", i)).value();
    const std::vector<double>
        grad = golden.inputs.Read(absl::StrCat("grads.", i))->Row(step).ToDoubles(),
        end = trajectory.Row(step).ToDoubles(),
        start = step == 0 ? golden.inputs.Read(absl::StrCat("start.", i))->ToDoubles()
                          : trajectory.Row(step - 1).ToDoubles();
    for (size_t k = 0; k < grad.size(); ++k) {
      moved += (start[k] - end[k]) * grad[k];
      squares += grad[k] * grad[k];
    }
  }
  if (squares == 0) return 1;  // a step without gradients
  return moved / squares / golden.cases["setups"]["sgd"]["lr"].get<double>();
}

class TrajectoryTest : public ::testing::TestWithParam<std::string> {};

TEST_P(TrajectoryTest, IsPyTorchs) {
  const Golden golden;
  const json& setup = golden.cases["setups"][GetParam()];
  const Schedule schedule = ScheduleOf(setup);
  const double clip = setup.value("clip_grad_norm", 0.0);
  for (const DType dtype : {kF64, kF32}) {
    std::vector<Tensor> start;
    for (const char* name : {"start.0", "start.1"}) {
      start.push_back(ConvertTo(golden.inputs.Read(name).value(), dtype).Clone());
    }
    Values values(start, false);
    start.clear();
    Optimizer optimizer(ConfigOf(setup), values);
    const std::vector<double> rates = golden.expected.Read(GetParam() + ".lr")->ToDoubles();
    for (int64_t step = 0; step < 20; ++step) {
      EXPECT_NEAR(schedule.Rate(step), rates[step], 1e-15);
      const double factor = setup.contains("schedule") ? 1 : FactorOf(golden, step);
      std::vector<Tensor> grads;
      for (const char* name : {"grads.0", "grads.1"}) {
        Tensor grad = golden.inputs.Read(name)->Row(step).Clone();
        for (int64_t k = 0; k < grad.elements(); ++k) grad.mutable_data<double>()[k] *= factor;
        grads.push_back(ConvertTo(grad, dtype));
      }
      const double scale = clip > 0 ? ClipScale(GlobalNorm(grads), clip) : 1;
      optimizer.Step(schedule.Rate(step), grads, scale);
      for (int i = 0; i < 2; ++i) {
        const std::string name = absl::StrCat(GetParam(), ".param.", i);
        const std::vector<double> expected = golden.expected.Read(name)->Row(step).ToDoubles();
        const std::vector<double> got = values[i].ToDoubles();
        const double tolerance =
            dtype == kF32 ? golden.cases["tolerance"]["max_abs"][name].get<double>() : 1e-12;
        for (size_t k = 0; k < got.size(); ++k) {
          ASSERT_NEAR(got[k], expected[k], tolerance) << name << " step " << step << " at " << k;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, TrajectoryTest, ::testing::ValuesIn(SetupNames()),
                         [](const auto& info) { return info.param; });

TEST(GoldenScheduleTest, RatesAreTransformers) {
  const Golden golden;
  const std::map<std::string, ScheduleKind> kinds = {
      {"schedule.cosine.warm10.total100.lr", ScheduleKind::kCosine},
      {"schedule.linear.warm10.total100.lr", ScheduleKind::kLinear},
      {"schedule.noam.d512.warm10.lr", ScheduleKind::kNoam}};
  for (const auto& [name, kind] : kinds) {
    Schedule schedule;
    schedule.kind = kind;
    schedule.lr = kind == ScheduleKind::kNoam ? 1 : 3e-4;
    schedule.warmup_steps = 10;
    schedule.total_steps = 100;
    schedule.d_model = 512;
    const std::vector<double> expected = golden.expected.Read(name)->ToDoubles();
    ASSERT_EQ(expected.size(), 105);
    for (size_t i = 0; i < expected.size(); ++i) {
      // transformers' cosine goes up again after its end; ours stays.
      const bool after = kind == ScheduleKind::kCosine && i > 100;
      EXPECT_NEAR(schedule.Rate(static_cast<int64_t>(i)), after ? 0 : expected[i], 1e-15)
          << name << " " << i;
    }
  }
}

TEST(OptimizerTest, OnlyWhatDescribeSaysDecays) {
  for (const OptimizerKind kind :
       {OptimizerKind::kAdamW, OptimizerKind::kAdam, OptimizerKind::kSgd}) {
    OptimizerConfig config;
    config.kind = kind;
    config.weight_decay = 0.5;
    Values values({Tensor::Full({3}, 2), Tensor::Full({3}, 2)}, true);
    Optimizer optimizer(config, values);
    optimizer.Step(0.1, {Tensor::Zeros({3}), Tensor::Zeros({3})}, 1);
    EXPECT_LT(values[0].data<float>()[1], 2) << OptimizerKindName(kind);
    EXPECT_EQ(values[1].data<float>()[1], 2) << OptimizerKindName(kind);
  }
}

TEST(OptimizerTest, NoGradientNoChange) {
  OptimizerConfig config;
  config.weight_decay = 0.5;
  Values values({Tensor::Full({3}, 2), Tensor::Full({3}, 2)}, false);
  Optimizer optimizer(config, values);
  optimizer.Step(0.1, {Tensor(), Tensor::Full({3}, 1)}, 1);
  EXPECT_THAT(values[0].ToDoubles(), ElementsAre(2, 2, 2));
  EXPECT_LT(values[1].data<float>()[0], 2);
}

std::string Bytes(const Tensor& x) {
  return std::string(static_cast<const char*>(x.raw_data()), x.bytes());
}

// All kinds, each with all it keeps.
std::vector<OptimizerConfig> AllConfigs() {
  std::vector<OptimizerConfig> configs(6);
  configs[1].amsgrad = true;
  configs[2].kind = OptimizerKind::kAdam;
  for (int i = 3; i < 6; ++i) configs[i].kind = OptimizerKind::kSgd;
  configs[4].momentum = 0.9;
  configs[4].dampening = 0.3;
  configs[5].momentum = 0.9;
  configs[5].nesterov = true;
  for (OptimizerConfig& config : configs) config.weight_decay = 0.1;
  return configs;
}

std::vector<Tensor> GradsOf(int step) {
  return {Tensor::Of<float>({2}, {std::sin(1.f + step), std::cos(3.f * step)}),
          // The second parameter has none at first.
          step < 3 ? Tensor() : Tensor::Of<float>({1}, {std::sin(5.f * step)})};
}

TEST(OptimizerTest, GoesOnFromItsStateBitForBit) {
  for (const OptimizerConfig& config : AllConfigs()) {
    for (int split = 0; split < 8; ++split) {
      Values straight({Tensor::Full({2}, 1), Tensor::Full({1}, -1)}, true);
      Values before({Tensor::Full({2}, 1), Tensor::Full({1}, -1)}, true);
      Optimizer one(config, straight);
      Optimizer two(config, before);
      for (int step = 0; step < 8; ++step) one.Step(0.1, GradsOf(step), 0.7);
      for (int step = 0; step < split; ++step) two.Step(0.1, GradsOf(step), 0.7);

      Values after({before[0].Clone(), before[1].Clone()}, true);
      Optimizer three(config, after);
      ASSERT_TRUE(three.SetState(two.steps(), two.State()).ok());
      for (int step = split; step < 8; ++step) three.Step(0.1, GradsOf(step), 0.7);
      for (int i = 0; i < 2; ++i) EXPECT_EQ(Bytes(after[i]), Bytes(straight[i]));
      const auto expected = one.State(), got = three.State();
      ASSERT_EQ(got.size(), expected.size());
      for (size_t i = 0; i < got.size(); ++i) {
        EXPECT_EQ(got[i].first, expected[i].first);
        EXPECT_EQ(Bytes(got[i].second), Bytes(expected[i].second)) << got[i].first;
      }
    }
  }
}

TEST(OptimizerTest, StateThatDoesNotFitIsRefusedWhole) {
  OptimizerConfig config;
  Values values({Tensor::Full({2}, 1)}, false);
  Optimizer optimizer(config, values);
  optimizer.Step(0.1, {Tensor::Full({2}, 1)}, 1);
  const std::string before = Bytes(optimizer.State()[0].second);
  const Tensor good = Tensor::Zeros({2});
  struct {
    std::vector<std::pair<std::string, Tensor>> state;
    const char* message;
  } cases[] = {
      {{{"exp_avg.p0", good}}, "'exp_avg_sq.p0' is missing"},
      {{{"exp_avg.p0", good}, {"exp_avg_sq.p0", Tensor::Zeros({3})}},
       "'exp_avg_sq.p0' is f32[3], expected f32[2]"},
      {{{"exp_avg.p0", good}, {"exp_avg_sq.p0", Tensor::Zeros({2}, kF64)}}, "is f64[2]"},
      {{{"exp_avg.p0", good}, {"exp_avg_sq.p0", good}, {"momentum_buffer.p0", good}},
       "'momentum_buffer.p0' belongs to no parameter of this adamw"},
  };
  for (auto& c : cases) {
    const absl::Status status = optimizer.SetState(7, c.state);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
    EXPECT_EQ(optimizer.steps(), 1);
    EXPECT_EQ(Bytes(optimizer.State()[0].second), before);
  }
}

TEST(OptimizerTest, LearningRateOfAParameterIsScaled) {
  class Scaled : public Module {
   public:
    void Describe(Visitor& v) override {
      ParamOptions options;
      options.lr_scale = 0.25;
      v.Param("a", a, {1}, Init::Zeros(), options);
      v.Param("b", b, {1}, Init::Zeros());
    }
    Tensor a = Tensor::Zeros({1}), b = Tensor::Zeros({1});
  } module;
  OptimizerConfig config;
  config.kind = OptimizerKind::kSgd;
  Optimizer optimizer(config, module);
  optimizer.Step(1, {Tensor::Full({1}, 1), Tensor::Full({1}, 1)}, 1);
  EXPECT_EQ(module.a.Item(), -0.25);
  EXPECT_EQ(module.b.Item(), -1);
}

TEST(OptimizerTest, LearningRateOfAParameterHasAMost) {
  class Limited : public Module {
   public:
    void Describe(Visitor& v) override {
      ParamOptions options;
      options.most_lr = 0.5;
      v.Param("a", a, {1}, Init::Zeros(), options);
    }
    Tensor a = Tensor::Zeros({1});
  } module;
  OptimizerConfig config;
  config.kind = OptimizerKind::kSgd;
  Optimizer optimizer(config, module);
  const Tensor one = Tensor::Full({1}, 1);
  optimizer.Step(0.25, {one}, 1, 0.25);  // below it all the time
  EXPECT_EQ(module.a.Item(), -0.25);
  optimizer.Step(1, {one}, 1, 2);  // half the highest rate of the run: half of the most
  EXPECT_EQ(module.a.Item(), -0.5);
  optimizer.Step(4, {one}, 1);
  EXPECT_EQ(module.a.Item(), -1);
}

TEST(OptimizerTest, NamesGoBothWays) {
  for (const std::string& name : OptimizerKindNames()) {
    EXPECT_EQ(OptimizerKindName(*OptimizerKindFromName(name)), name);
  }
  EXPECT_FALSE(OptimizerKindFromName("adan").has_value());
}

}  // namespace
}  // namespace residual
