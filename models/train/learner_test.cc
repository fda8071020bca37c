#include "models/train/learner.h"

#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace residual {
namespace {

using ::testing::HasSubstr;

class TwoWeights : public Module {
 public:
  void Describe(Visitor& v) override {
    v.Param("a", a_, {2}, Init::Ones());
    v.Param("b", b_, {1}, Init::Ones());
  }
  Tensor a_, b_;
};

OptimizerConfig Sgd() {
  OptimizerConfig config;
  config.kind = OptimizerKind::kSgd;
  return config;
}

// Learns what it is told.
class Told : public Learner {
 public:
  explicit Told(Module& module) : Learner(Sgd(), module) {}
  absl::StatusOr<StepResult> Step() override {
    const auto norm =
        Update({Tensor::Of<float>({2}, gradient_of_a), Tensor()}, {1, 1, clip, batches});
    if (!norm.ok()) return norm.status();
    StepResult result;
    result.grad_norm = *norm;
    return result;
  }
  Evaluation Measure(int64_t) override { return {}; }
  int64_t tokens_per_step() const override { return 1; }

  std::vector<float> gradient_of_a = {3, 4};
  double clip = 0;
  int64_t batches = 1;
};

TEST(LearnerTest, AppliesMeansOfGradientsAndClips) {
  TwoWeights model;
  Initialize(model, 0);
  Told learner(model);
  learner.batches = 2;
  EXPECT_EQ(learner.Step()->grad_norm, 2.5);
  EXPECT_EQ(model.a_.ToDoubles(), (std::vector<double>{1 - 1.5, 1 - 2.0}));
  EXPECT_EQ(model.b_.ToDoubles(), std::vector<double>{1});
  EXPECT_EQ(learner.step(), 1);
  Initialize(model, 0);
  learner.batches = 1;
  learner.clip = 0.5;
  EXPECT_EQ(learner.Step()->grad_norm, 5);
  EXPECT_NEAR(model.a_.ToDoubles()[0], 1 - 0.3, 1e-5);
  EXPECT_NEAR(model.a_.ToDoubles()[1], 1 - 0.4, 1e-5);
}

TEST(LearnerTest, NamesWhatIsNotFinite) {
  TwoWeights model;
  Initialize(model, 0);
  Told learner(model);
  learner.set_step(7);
  learner.gradient_of_a[1] = std::numeric_limits<float>::infinity();
  const auto gradient = learner.Step();
  EXPECT_EQ(gradient.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(gradient.status().message()),
              HasSubstr("step 7: the gradient of 'a' [2] at index 1 (inf) is not finite"));
  EXPECT_EQ(model.a_.ToDoubles(), (std::vector<double>{1, 1}));
  EXPECT_EQ(learner.step(), 7);
  model.a_.mutable_data<float>()[0] = std::numeric_limits<float>::max();
  learner.gradient_of_a = {-std::numeric_limits<float>::max(), 0};
  EXPECT_THAT(std::string(learner.Step().status().message()),
              HasSubstr("step 7: the update made weight 'a' [2] at index 0 (inf) non-finite"));
}

}  // namespace
}  // namespace residual
