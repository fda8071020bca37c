#include "interp/induction/study.h"

#include <cmath>
#include <memory>

#include "gtest/gtest.h"
#include "interp/testing/planted_circuit.h"
#include "models/transformer/transformer.h"
#include "tensor/base/parallel.h"

namespace residual {
namespace {

// Passages of eight different tokens, each passage twice.
class DifferentTokensTwice : public DataSource {
 public:
  TrainingBatch Batch(uint64_t seed, int64_t step, int64_t batch_size) const override {
    TrainingBatch batch{Tensor::Uninitialized({batch_size, 16}, kI64),
                        Tensor::Uninitialized({batch_size, 16}, kI64)};
    for (int64_t r = 0; r < batch_size; ++r) {
      for (int64_t i = 0; i <= 16; ++i) {
        // Multiples of an odd step less than 20 that shares no factor with it.
        const int64_t id = (7 * (r + step) + (i % 8) * (r % 2 == 0 ? 3 : 9)) % 20;
        if (i < 16) batch.tokens.mutable_data<int64_t>()[r * 16 + i] = id;
        if (i > 0) batch.targets.mutable_data<int64_t>()[r * 16 + i - 1] = id;
      }
    }
    return batch;
  }
  TrainingBatch EvalBatch(uint64_t seed, int64_t index, int64_t batch_size) const override {
    return Batch(seed, index, batch_size);
  }
  int64_t d_vocab() const override { return 20; }
  int64_t context() const override { return 16; }
};

Probes PlantedProbes() {
  const DifferentTokensTwice data;
  Probes probes = MakeProbes(data, data, {0, 1}, 1);
  probes.repeated_random = probes.held_out.tokens;
  return probes;
}

TEST(StudyTest, AblationsOfThePlantedCircuit) {
  const auto model = PlantedInductionModel();
  const Probes probes = PlantedProbes();
  const HeadScores scores = *ScoreHeads(*model, probes.repeated_random);
  const absl::StatusOr<AblationStudy> study = StudyAblations(*model, scores, probes, 1);
  ASSERT_TRUE(study.ok()) << study.status();
  EXPECT_EQ(study->induction_heads, (std::vector<HeadIndex>{{1, 0}}));
  EXPECT_EQ(study->previous_token_heads, (std::vector<HeadIndex>{{0, 0}}));
  EXPECT_EQ(study->random_sets.size(), 2);  // of the idle heads L0H1 and L1H1
  EXPECT_LT(study->icl_score, -1);
  for (const KnockOut& knock_out : {study->full, study->frozen}) {
    EXPECT_NEAR(knock_out.without_induction, 0, 0.05);
    EXPECT_EQ(knock_out.without_matched, knock_out.without_induction);
    EXPECT_NEAR(knock_out.random_mean, study->icl_score, 1e-12);
    // Random heads do nothing, so the denominator is 1 % of the score.
    EXPECT_NEAR(knock_out.ratio, 100, 5);
  }
  EXPECT_NEAR(study->best_induction, 1, 1e-9);
  EXPECT_LT(study->best_induction_without_previous, 0.12);
  EXPECT_NEAR(study->best_induction_without_others, 1, 1e-9);
  EXPECT_NEAR(study->without_each[0][1], study->icl_score, 1e-12);
  EXPECT_NEAR(study->without_each[1][0], study->full.without_induction, 1e-12);
  ASSERT_EQ(study->loss_by_position.size(), 16);
  EXPECT_LT(study->loss_by_position[12], 1e-6);
  EXPECT_GT(study->loss_without_induction[12], 1);
  EXPECT_LT(study->loss_without_random[12], 1e-6);
}

TEST(StudyTest, WithoutHeadsToCompareThereIsNoRatio) {
  const auto model = PlantedInductionModel();
  const Probes probes = PlantedProbes();
  HeadScores scores = *ScoreHeads(*model, probes.repeated_random);
  // As if every head were of the circuit.
  scores.induction[1][1] = 0.9;
  scores.previous_token[0][1] = 0.9;
  const AblationStudy study = *StudyAblations(*model, scores, probes, 1);
  EXPECT_TRUE(study.random_sets.empty());
  EXPECT_TRUE(std::isnan(study.full.ratio));
  EXPECT_TRUE(std::isnan(study.full.random_mean));
  EXPECT_TRUE(std::isnan(study.best_induction_without_others));
  EXPECT_TRUE(study.loss_without_random.empty());
  EXPECT_NEAR(study.full.without_induction, 0, 0.05);
}

TEST(StudyTest, RandomSetsAreAsManyAsThereAre) {
  const auto model = PlantedInductionModel();
  const Probes probes = PlantedProbes();
  HeadScores scores = *ScoreHeads(*model, probes.repeated_random);
  scores.induction[1][1] = 0.9;  // two induction heads, L0H1 is the only head left
  const AblationStudy study = *StudyAblations(*model, scores, probes, 1);
  EXPECT_EQ(study.induction_heads, (std::vector<HeadIndex>{{1, 0}, {1, 1}}));
  EXPECT_EQ(study.random_sets, (std::vector<std::vector<HeadIndex>>{{{0, 1}}}));
  // The strongest one alone stands for it: here the planted head.
  EXPECT_NEAR(study.full.without_matched, study.full.without_induction, 1e-12);
}

TEST(StudyTest, NoInductionHeadsAreFoundWhereThereAreNone) {
  const auto model = PlantedPreviousTokenModel();
  const Probes probes = PlantedProbes();
  const HeadScores scores = *ScoreHeads(*model, probes.repeated_random);
  EXPECT_TRUE(HeadsAbove(scores.induction, 0.2).empty());
  const AblationStudy study = *StudyAblations(*model, scores, probes, 1);
  EXPECT_TRUE(study.previous_token_heads.empty());  // none below layer 0
}

TEST(StudyTest, CircuitsOfThePlantedModel) {
  const auto model = PlantedInductionModel();
  const CircuitStudy study = *StudyCircuits(*model, {0, 0}, {1, 0});
  EXPECT_NEAR(study.qk_matching, 1, 1e-9);
  EXPECT_NEAR(study.ov_copying[1][0], 1, 1e-9);
  EXPECT_NEAR(study.k_baseline, 1 / std::sqrt(56.0), 1e-12);
  EXPECT_GT(study.k_composition[0][0][1][0], study.k_baseline);
  EXPECT_NEAR(study.ov_eigenvalues[0].real(), 1, 1e-9);
  EXPECT_NEAR(study.qk_eigenvalues[0].real(), 1, 1e-9);

  const CircuitStudy none = *StudyCircuits(*model, {}, {});
  EXPECT_TRUE(none.ov_eigenvalues.empty());
  EXPECT_TRUE(none.qk_eigenvalues.empty());
  EXPECT_FALSE(StudyCircuits(*model, {0, 7}, {1, 0}).ok());
  EXPECT_FALSE(StudyCircuits(*model, {0, 0}, {1, 7}).ok());
}

TEST(StudyTest, APassageShowsTheHeadAtWork) {
  const auto model = PlantedInductionModel();
  // The first row repeats nothing.
  const Tensor rows = Tensor::Of<int64_t>({2, 12}, {0, 1, 2, 3,  4, 5, 6, 7, 8, 9,  10, 11,  //
                                                    3, 1, 4, 15, 9, 2, 3, 1, 4, 15, 9,  2});
  const Passage passage = *FindPassage(*model, rows, {1, 0});
  EXPECT_EQ(passage.tokens, (std::vector<int64_t>{3, 1, 4, 15, 9, 2, 3, 1, 4, 15, 9, 2}));
  ASSERT_EQ(passage.patterns[1].shape(), Shape({2, 12, 12}));
  EXPECT_GE(passage.selected, 9);  // four tokens read twice
  const auto look = passage.patterns[1].Row(0).Row(passage.selected).ToDoubles();
  EXPECT_NEAR(look[passage.selected - 5], 1, 1e-9);
  EXPECT_FALSE(FindPassage(*model, rows, {}).ok());
}

std::vector<TrainingPoint> Points(std::initializer_list<double> induction) {
  std::vector<TrainingPoint> points;
  for (double score : induction) {
    points.emplace_back();
    points.back().best_induction = score;
  }
  return points;
}

TEST(StudyTest, PhaseChange) {
  const PhaseChange change = FindPhaseChange(Points({0.02, 0.02, 0.05, 0.2, 0.6, 0.78, 0.82}));
  EXPECT_EQ(change.first, 2);
  EXPECT_EQ(change.last, 5);
  EXPECT_TRUE(change.found());
  EXPECT_FALSE(FindPhaseChange(Points({0.02, 0.03, 0.05, 0.03})).found());
  EXPECT_FALSE(FindPhaseChange({}).found());
  // A step from nothing to all.
  EXPECT_EQ(FindPhaseChange(Points({0, 0, 1, 1})).first, 1);
  EXPECT_EQ(FindPhaseChange(Points({0, 0, 1, 1})).last, 2);
}

TEST(StudyTest, HeadsAbove) {
  const HeadTable table = {{0.3, 0.5}, {}, {0.9, 0.44, 0.46}};
  EXPECT_EQ(HeadsAbove(table, 0.1), (std::vector<HeadIndex>{{2, 0}, {0, 1}, {2, 2}}));
  EXPECT_EQ(HeadsAbove(table, 0.6), (std::vector<HeadIndex>{{2, 0}}));
  EXPECT_TRUE(HeadsAbove(table, 0.95).empty());
  EXPECT_TRUE(HeadsAbove({}, 0.1).empty());
}

// A two-layer model trained for a few steps.
absl::StatusOr<std::vector<TrainingPoint>> Train(
    const TrainPlan& plan,
    const std::function<bool(const StepResult&, const TrainingPoint&)>& on_step = nullptr) {
  TransformerConfig config;
  config.d_model = 16;
  config.n_ctx = 16;
  config.d_vocab = 20;
  config.blocks = {{"attn"}, {"attn"}};
  config.n_heads = 2;
  config.d_head = 8;
  config.positions = Positions::kSinusoidalOnQK;
  const auto model = BuildTransformer(config);
  Initialize(*model, 5);
  TrainConfig train;
  train.schedule.lr = 5e-3;
  train.batch_size = 4;
  const DifferentTokensTwice data;
  Trainer trainer(train, *model, data);
  return TrainAndMeasure(trainer, MakeProbes(data, data, {1, 2, 3, 4, 5}, 2), plan, on_step);
}

TEST(StudyTest, MeasuresBeforeEveryFewStepsAndAtTheEnd) {
  TrainPlan plan;
  plan.max_steps = 7;
  plan.every = 3;
  int64_t steps = 0;
  const auto points = Train(plan, [&](const StepResult& step, const TrainingPoint& point) {
    EXPECT_EQ(step.step, steps++);
    EXPECT_LE(point.step, steps);
    return true;
  });
  ASSERT_TRUE(points.ok()) << points.status();
  EXPECT_EQ(steps, 7);
  ASSERT_EQ(points->size(), 4);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ((*points)[i].step, std::min(3 * i, 7));
    EXPECT_EQ((*points)[i].tokens, (*points)[i].step * 64);
    EXPECT_EQ(std::isnan((*points)[i].loss), i == 0);
  }
  EXPECT_LT((*points)[3].loss, (*points)[1].loss);
  EXPECT_EQ(
      Train(plan, [](const StepResult&, const TrainingPoint&) { return false; }).status().code(),
      absl::StatusCode::kCancelled);
}

TEST(StudyTest, StopsOnAPlateau) {
  TrainPlan plan;
  plan.max_steps = 40;
  plan.every = 2;
  plan.patience = 3;
  plan.formed = 0;                         // whatever the score
  plan.tolerance = 10;                     // and whatever it does
  EXPECT_EQ(Train(plan)->back().step, 6);  // three measurements after the first
  plan.formed = 0.99;
  EXPECT_EQ(Train(plan)->back().step, 40);
  plan.formed = 0;
  plan.patience = 0;
  EXPECT_EQ(Train(plan)->back().step, 40);
}

TEST(StudyTest, NumbersAreTheSameForAnyNumberOfThreads) {
  TrainPlan plan;
  plan.max_steps = 6;
  plan.every = 3;
  const int before = NumThreads();
  SetNumThreads(1);
  const auto one = *Train(plan);
  SetNumThreads(3);
  const auto three = *Train(plan);
  SetNumThreads(before);
  ASSERT_EQ(one.size(), three.size());
  for (size_t i = 1; i < one.size(); ++i) {
    EXPECT_EQ(one[i].loss, three[i].loss);
    EXPECT_EQ(one[i].icl_score, three[i].icl_score);
    EXPECT_EQ(one[i].best_induction, three[i].best_induction);
  }
}

}  // namespace
}  // namespace residual
