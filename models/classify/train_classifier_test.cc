#include "models/classify/train_classifier.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tensor/base/parallel.h"
#include "tensor/base/random.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

ClassifierConfig Config(int64_t channels) {
  ClassifierConfig c;
  c.channels = channels;
  c.n_classes = 3;
  c.body.d_model = 8;
  c.body.d_state = 8;
  c.body.n_ctx = 16;
  c.body.d_vocab = 5;
  c.body.blocks = {{"s4d"}};
  c.body.positions = Positions::kNone;
  c.body.steps.min = 0.05;
  c.body.resid_dropout = 0.1;
  return c;
}

std::unique_ptr<SequenceClassifier> Model(const ClassifierConfig& config) {
  auto model = SequenceClassifier::Make(config);
  RESIDUAL_CHECK(model.ok()) << model.status().message();
  Initialize(**model, 3);
  return *std::move(model);
}

// A peak in the first, second or last third of noise.
LabeledSequences Peaks(int64_t n, uint64_t seed) {
  const Philox random(seed);
  LabeledSequences data;
  data.x = Tensor::Uninitialized({n, 15, 1});
  data.n_classes = 3;
  for (int64_t i = 0; i < n; ++i) {
    data.label.push_back(static_cast<int>(random.Below(4 * i, 3)));
    const int64_t at = 5 * data.label.back() + random.Below(4 * i + 1, 5);
    for (int64_t t = 0; t < 15; ++t) {
      data.x.mutable_data<float>()[i * 15 + t] =
          (t == at ? 1.0f : 0.2f * random.Uniform(100000 + i * 15 + t));
    }
  }
  return data;
}

ClassifierTraining Training() {
  ClassifierTraining training;
  training.schedule.kind = ScheduleKind::kCosine;
  training.schedule.lr = 0.02;
  training.epochs = 6;
  training.batch_size = 20;
  training.seed = 5;
  return training;
}

TEST(TrainClassifierTest, LearnsAndEndsWithTheBestEpoch) {
  const auto model = Model(Config(1));
  const LabeledSequences train = Peaks(410, 1), validation = Peaks(200, 2);
  int calls = 0;
  const auto run = TrainClassifier(Training(), *model, train, validation,
                                   [&](const ClassifierRun::Epoch&) { ++calls; });
  ASSERT_TRUE(run.ok()) << run.status();
  ASSERT_EQ(run->epochs.size(), 6);
  EXPECT_EQ(calls, 6);
  EXPECT_EQ(run->epochs[0].step, 20);  // of the 410 rows 10 are no batch
  const double best = run->epochs[run->best].validation;
  for (int64_t i = 0; i < 6; ++i) {
    EXPECT_LE(run->epochs[i].validation, best);
    EXPECT_TRUE(i >= run->best || run->epochs[i].validation < best) << i;
  }
  EXPECT_GE(best, 0.9);
  EXPECT_EQ(ScoreClassifier(*model, validation, 17).accuracy, best);
  EXPECT_LT(run->epochs.back().loss, 0.5 * run->epochs[0].loss);
}

TEST(TrainClassifierTest, IsAFunctionOfItsConfigAlone) {
  const LabeledSequences train = Peaks(60, 1);
  const int before = NumThreads();
  std::vector<Tensor> weights;
  for (const int threads : {1, 2}) {
    SetNumThreads(threads);
    const auto model = Model(Config(1));
    ClassifierTraining training = Training();
    training.epochs = 1;
    ASSERT_TRUE(TrainClassifier(training, *model, train, train, nullptr).ok());
    size_t i = 0;
    for (const Parameter& p : Parameters(*model)) {
      if (threads == 1) {
        weights.push_back(*p.value);
      } else {
        ExpectIdentical(*p.value, weights[i++], p.name);
      }
    }
  }
  SetNumThreads(before);
}

TEST(TrainClassifierTest, StopsAfterItsTime) {
  const auto model = Model(Config(1));
  ClassifierTraining training = Training();
  training.seconds_limit = 1e-9;
  const auto run = TrainClassifier(training, *model, Peaks(60, 1), Peaks(20, 2), nullptr);
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->epochs.size(), 1);
}

TEST(TrainClassifierTest, SaysWhereItDiverges) {
  const auto model = Model(Config(1));
  LabeledSequences train = Peaks(40, 1);
  train.x.mutable_data<float>()[7] = std::numeric_limits<float>::quiet_NaN();
  const auto run = TrainClassifier(Training(), *model, train, Peaks(20, 2), nullptr);
  EXPECT_EQ(run.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(std::string(run.status().message()).find(": the loss is nan"), std::string::npos);
  for (const Parameter& p : Parameters(*model)) {
    for (const double value : p.value->ToDoubles()) ASSERT_TRUE(std::isfinite(value)) << p.name;
  }
}

TEST(TrainClassifierTest, RefusesDataItCannotRead) {
  const auto model = Model(Config(1));
  const auto message = [&](const LabeledSequences& data) {
    return std::string(CheckReadable(*model, data).message());
  };
  LabeledSequences data = Peaks(4, 1);
  EXPECT_EQ(message(data), "");
  EXPECT_EQ(message(LabeledSequences()), "the data's number of rows is 0, expected at least 1");
  data.n_classes = 4;
  EXPECT_EQ(message(data), "the data's number of classes is 4, expected at most 3");
  data = Peaks(4, 1);
  data.x = Tensor::Zeros({4, 17, 1});
  EXPECT_EQ(message(data), "the data's length is 17, expected 1 to the model's 16");
  data.x = Tensor::Zeros({4, 16, 2});
  EXPECT_EQ(message(data), "the data's number of channels (0: tokens) is 2, expected 1");
  ClassifierTraining training = Training();
  training.batch_size = 5;
  EXPECT_EQ(
      std::string(
          TrainClassifier(training, *model, Peaks(4, 1), Peaks(4, 1), nullptr).status().message()),
      "batch_size is 5, expected 1 to the 4 rows");
}

}  // namespace
}  // namespace residual
