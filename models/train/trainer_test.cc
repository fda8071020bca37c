#include "models/train/trainer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/train/testing.h"
#include "ops/layout/layout.h"
#include "ops/loss/cross_entropy.h"
#include "tensor/base/parallel.h"
#include "tensor/core/storage.h"

namespace residual {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Tensor& Weight(ResidualModel& model, const std::string& name) {
  for (const Parameter& parameter : Parameters(model)) {
    if (parameter.name == name) return *parameter.value;
  }
  RESIDUAL_CHECK(false) << name;
  return *Parameters(model)[0].value;
}

void Fill(Tensor& x, float value) { std::fill_n(x.mutable_data<float>(), x.elements(), value); }

std::vector<double> AllWeights(ResidualModel& model) {
  std::vector<double> all;
  for (const Parameter& parameter : Parameters(model)) {
    const std::vector<double> values = parameter.value->ToDoubles();
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

double Distance(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}

// The rows of a text in order: batch s of n rows has the rows [s n, (s + 1) n).
class RowsInOrder : public DataSource {
 public:
  TrainingBatch Batch(uint64_t, int64_t step, int64_t batch_size) const override {
    std::vector<int64_t> tokens, targets;
    for (int64_t row = step * batch_size; row < (step + 1) * batch_size; ++row) {
      for (int64_t i = 0; i < context(); ++i) {
        tokens.push_back((row * 5 + i * i) % 11);
        targets.push_back((row * 5 + (i + 1) * (i + 1)) % 11);
      }
    }
    return {Tensor::Of<int64_t>({batch_size, context()}, tokens),
            Tensor::Of<int64_t>({batch_size, context()}, targets)};
  }
  TrainingBatch EvalBatch(uint64_t seed, int64_t index, int64_t batch_size) const override {
    return Batch(seed, 1000 + index, batch_size);
  }
  int64_t d_vocab() const override { return 11; }
  int64_t context() const override { return 12; }
};

TrainConfig SmallConfig() {
  TrainConfig config;
  config.batch_size = 4;
  config.schedule.lr = 3e-3;
  return config;
}

TEST(TrainerTest, Learns) {
  const auto data = TinyText();
  const auto model = TinyModel(TinyConfig());
  TrainConfig config = SmallConfig();
  config.batch_size = 8;
  config.schedule.lr = 1e-2;
  Trainer trainer(config, *model, *data);
  const double before = trainer.Evaluate(8);
  EXPECT_NEAR(before, std::log(11), 0.05);
  for (int i = 0; i < 150; ++i) ASSERT_TRUE(trainer.Step().ok());
  EXPECT_LT(trainer.Evaluate(8), 1.2);
  EXPECT_EQ(trainer.step(), 150);
}

// Also steps far too small for a bf16 weight add up: the weights are f32.
TEST(TrainerTest, MixedPrecisionFollowsFull) {
  const auto data = TinyText();
  for (const double lr : {1e-2, 1e-4}) {
    TrainConfig config = SmallConfig();
    config.batch_size = 8;
    config.schedule.lr = lr;
    const auto full_model = TinyModel(TinyConfig()), mixed_model = TinyModel(TinyConfig());
    Trainer full(config, *full_model, *data);
    config.precision = Precision::kBF16;
    Trainer mixed(config, *mixed_model, *data);
    const double start = full.Evaluate(8);
    EXPECT_NE(mixed.Evaluate(8), start);
    for (int i = 0; i < 100; ++i) {
      const auto a = full.Step(), b = mixed.Step();
      ASSERT_TRUE(a.ok() && b.ok());
      EXPECT_NEAR(b->loss, a->loss, lr > 1e-3 ? 0.1 : 0.002) << "step " << i;
      // Gradients are those of other weights by and by.
      if (lr > 1e-3 && i >= 40) continue;
      EXPECT_NEAR(b->grad_norm, a->grad_norm, 0.1 * a->grad_norm) << "step " << i;
    }
    const double fell = start - full.Evaluate(8);
    EXPECT_GT(fell, 100 * lr * 0.3);
    EXPECT_NEAR(start - mixed.Evaluate(8), fell, 0.1 * fell);
    for (const Parameter& parameter : Parameters(*mixed_model)) {
      EXPECT_EQ(parameter.value->dtype(), kF32) << parameter.name;
    }
  }
}

TEST(TrainerTest, AccumulationEqualsTheLargerBatch) {
  const RowsInOrder data;
  for (const DType dtype : {kF64, kF32}) {
    const auto one = TinyModel(TinyConfig(), 1, dtype), many = TinyModel(TinyConfig(), 1, dtype);
    TrainConfig config = SmallConfig();
    config.optimizer.kind = OptimizerKind::kSgd;
    config.schedule.lr = 0.1;
    config.batch_size = 6;
    Trainer a(config, *one, data);
    config.batch_size = 2;
    config.accumulation = 3;
    Trainer b(config, *many, data);
    const double tolerance = dtype == kF64 ? 1e-12 : 2e-6;
    for (int i = 0; i < 4; ++i) {
      const auto whole = a.Step(), parts = b.Step();
      ASSERT_TRUE(whole.ok() && parts.ok());
      EXPECT_NEAR(parts->loss, whole->loss, tolerance);
      EXPECT_NEAR(parts->grad_norm, whole->grad_norm, tolerance);
      EXPECT_EQ(parts->tokens, whole->tokens);
      EXPECT_LT(Distance(AllWeights(*one), AllWeights(*many)), 10 * tolerance);
    }
  }
}

TEST(TrainerTest, ClippingBoundsTheStep) {
  const RowsInOrder data;
  TrainConfig config = SmallConfig();
  config.optimizer.kind = OptimizerKind::kSgd;
  config.schedule.lr = 0.5;
  // As if not clipped, clipped, and not at all.
  for (const double clip : {1e6, 1e-3, 0.0}) {
    config.clip_norm = clip;
    const auto model = TinyModel(TinyConfig(), 1, kF64);
    const std::vector<double> before = AllWeights(*model);
    Trainer trainer(config, *model, data);
    const auto step = trainer.Step();
    ASSERT_TRUE(step.ok());
    EXPECT_GT(step->grad_norm, 0.01);
    const double moved = Distance(before, AllWeights(*model)) / 0.5;
    EXPECT_NEAR(moved, clip == 1e-3 ? clip : step->grad_norm, 1e-6);
  }
}

TEST(TrainerTest, RateIsTheSchedules) {
  const RowsInOrder data;
  const auto model = TinyModel(TinyConfig());
  TrainConfig config = SmallConfig();
  config.schedule.kind = ScheduleKind::kCosine;
  config.schedule.warmup_steps = 2;
  config.schedule.total_steps = 6;
  Trainer trainer(config, *model, data);
  for (int i = 0; i < 8; ++i) {
    const std::vector<double> before = AllWeights(*model);
    const auto step = trainer.Step();
    ASSERT_TRUE(step.ok());
    EXPECT_EQ(step->step, i);
    EXPECT_EQ(step->lr, config.schedule.Rate(i));
    // No rate, no step: the first of the warm-up and those after the end.
    EXPECT_EQ(Distance(before, AllWeights(*model)) == 0, i == 0 || i >= 6) << i;
  }
}

TEST(TrainerTest, SameBitsForAnyNumberOfThreads) {
  const auto data = TinyText();
  TransformerConfig model_config = TinyConfig();
  model_config.attn_dropout = model_config.resid_dropout = 0.1;
  const int before = NumThreads();
  std::string expected;
  for (const int threads : {1, 2, 3}) {
    SetNumThreads(threads);
    const auto model = TinyModel(model_config);
    TrainConfig config = SmallConfig();
    config.accumulation = 2;
    Trainer trainer(config, *model, *data);
    std::string result;
    for (int i = 0; i < 10; ++i) {
      const auto step = trainer.Step();
      ASSERT_TRUE(step.ok());
      result += std::to_string(step->loss) + " " + std::to_string(step->grad_norm) + "\n";
    }
    result += std::to_string(trainer.Evaluate(3)) + WeightBytes(*model);
    if (threads == 1) expected = result;
    EXPECT_TRUE(result == expected) << threads << " threads";
  }
  SetNumThreads(before);
}

// The rows go on from a state that is still there afterwards, bit for bit, and their loss is that
// of a run that goes on from it.
TEST(TrainerTest, StepsFromAState) {
  const RowsInOrder data;
  TransformerConfig tiny = TinyConfig();
  tiny.n_ctx = 20;
  const auto model = TinyModel(tiny);
  Trainer trainer(SmallConfig(), *model, data);
  ModelState start = model->NewState(4);
  const Tensor before = data.EvalBatch(0, 0, 4).tokens;
  model->NextLogits({Slice(before, 1, 0, 5)}, &start);
  const TrainingBatch batch = data.Batch(0, 0, 4);
  ModelState fork = start.Fork();
  const Tensor logits = model->Forward({batch.tokens}, &fork);
  const double expected =
      CrossEntropy(logits.Reshaped({48, 11}), batch.targets.Reshaped({48})).Item();
  const auto step = trainer.StepFrom(&start);
  ASSERT_TRUE(step.ok()) << step.status();
  EXPECT_EQ(start.length(), 5);
  EXPECT_NEAR(step->loss, expected, 1e-6);
  const auto plain = Trainer(SmallConfig(), *TinyModel(tiny), data).Step();
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_GT(std::abs(plain->loss - step->loss), 1e-4);
  EXPECT_NE(plain->grad_norm, step->grad_norm);
}

TEST(TrainerTest, SeedsGiveOtherRuns) {
  const auto data = TinyText();
  TransformerConfig model_config = TinyConfig();
  std::vector<std::string> results;
  // Twice the same, another seed of the data, dropout, another seed of dropout.
  for (int run = 0; run < 4; ++run) {
    if (run == 3) model_config.attn_dropout = 0.3;
    const auto model = TinyModel(model_config);
    TrainConfig config = SmallConfig();
    config.seed = run == 2 ? 5 : 0;
    Trainer trainer(config, *model, *data);
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(trainer.Step().ok());
    results.push_back(WeightBytes(*model));
  }
  EXPECT_TRUE(results[0] == results[1]);
  EXPECT_FALSE(results[0] == results[2]);
  EXPECT_FALSE(results[0] == results[3]);
}

TEST(TrainerTest, EvaluationHasNoDropoutAndLeavesNoTrace) {
  const auto data = TinyText();
  TransformerConfig model_config = TinyConfig();
  model_config.resid_dropout = 0.5;
  const auto model = TinyModel(model_config);
  TrainConfig config = SmallConfig();
  Trainer trainer(config, *model, *data);
  const std::string before = WeightBytes(*model);
  const double loss = trainer.Evaluate(4);
  EXPECT_EQ(trainer.Evaluate(4), loss);
  EXPECT_TRUE(WeightBytes(*model) == before);
}

TEST(TrainerTest, NoSystemAllocationAfterTheFirstStep) {
  const auto data = TinyText();
  for (const int threads : {1, 2}) {
    const int before = NumThreads();
    SetNumThreads(threads);
    TransformerConfig model_config = TinyConfig();
    model_config.resid_dropout = 0.1;
    const auto model = TinyModel(model_config);
    TrainConfig config = SmallConfig();
    config.accumulation = 2;
    Trainer trainer(config, *model, *data);
    ASSERT_TRUE(trainer.Step().ok());
    const int64_t allocations = HostPoolStats().system_allocations;
    for (int i = 0; i < 20; ++i) ASSERT_TRUE(trainer.Step().ok());
    EXPECT_EQ(HostPoolStats().system_allocations, allocations) << threads << " threads";
    SetNumThreads(before);
  }
}

// What is not finite stops the step and is named: where, which tensor, which element, which step.
absl::Status StepsUntilError(Trainer& trainer) {
  for (int i = 0; i < 100; ++i) {
    const auto step = trainer.Step();
    if (!step.ok()) return step.status();
  }
  return absl::OkStatus();
}

TEST(TrainerTest, NamesAWeightThatIsNotFinite) {
  const RowsInOrder data;
  const auto model = TinyModel(TinyConfig());
  Trainer trainer(SmallConfig(), *model, data);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(trainer.Step().ok());
  Weight(*model, "blocks.0.mlp.W_in").mutable_data<float>()[17] = std::nanf("");
  const std::string before = WeightBytes(*model);
  const absl::Status status = trainer.Step().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("step 3: the loss is nan"),
                    HasSubstr("weight 'blocks.0.mlp.W_in' [16, 24] at index 17 (nan)")));
  EXPECT_TRUE(WeightBytes(*model) == before);
  EXPECT_EQ(trainer.step(), 3);
}

TEST(TrainerTest, NamesTheFirstActivationThatIsNotFinite) {
  const RowsInOrder data;
  const auto model = TinyModel(TinyConfig());
  Trainer trainer(SmallConfig(), *model, data);
  // Finite itself, but not what is made of it.
  Fill(Weight(*model, "blocks.0.mlp.W_in"), 3e38f);
  Fill(Weight(*model, "blocks.0.ln2.w"), 3e3f);
  const absl::Status status = trainer.Step().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("step 0: the loss is"),
                    HasSubstr("activation 'blocks.0.mlp.hook_pre' [4, 12, 24] at index ")));
}

TEST(TrainerTest, NamesAGradientThatIsNotFinite) {
  const RowsInOrder data;
  TransformerConfig config = TinyConfig();
  config.blocks = {{"attn"}};
  config.norm = NormKind::kNone;
  config.final_norm = false;
  const auto model = TinyModel(config);
  // The attention adds 0, so the loss is finite; the gradient of W_V is W_O times the stream.
  Fill(Weight(*model, "blocks.0.attn.W_V"), 0);
  Fill(Weight(*model, "blocks.0.attn.W_O"), 3e38f);
  Fill(Weight(*model, "embed.W_E"), 3e3f);
  Trainer trainer(SmallConfig(), *model, data);
  const std::string before = WeightBytes(*model);
  const absl::Status status = trainer.Step().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("step 0: the gradient of 'blocks.0.attn."), HasSubstr("at index "),
                    HasSubstr("is not finite")));
  EXPECT_TRUE(WeightBytes(*model) == before);
}

TEST(TrainerTest, NamesAWeightThatTheUpdateBroke) {
  const RowsInOrder data;
  const auto model = TinyModel(TinyConfig());
  TrainConfig config = SmallConfig();
  config.optimizer.kind = OptimizerKind::kSgd;
  config.schedule.lr = 1e39;
  config.schedule.warmup_steps = 0;
  Trainer trainer(config, *model, data);
  const absl::Status status = StepsUntilError(trainer);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("step 0: the update made weight '"), HasSubstr("at index "),
                    HasSubstr("non-finite")));
}

}  // namespace
}  // namespace residual
