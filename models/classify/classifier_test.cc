#include "models/classify/classifier.h"

#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "ops/layout/layout.h"
#include "tensor/autograd/tape.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

ClassifierConfig Config(int64_t channels) {
  ClassifierConfig c;
  c.channels = channels;
  c.n_classes = 4;
  c.body.d_model = 6;
  c.body.d_state = 4;
  c.body.n_ctx = 12;
  c.body.d_vocab = 9;
  c.body.blocks = {{"s4d"}, {"s4"}};
  c.body.positions = Positions::kNone;
  c.body.steps.min = 0.05;
  return c;
}

std::unique_ptr<SequenceClassifier> Model(const ClassifierConfig& config, DType dtype = kF64) {
  auto model = SequenceClassifier::Make(config);
  RESIDUAL_CHECK(model.ok()) << model.status().message();
  Initialize(**model, 3, dtype);
  return *std::move(model);
}

void ExpectNear(const Tensor& got, const Tensor& want, double tolerance) {
  ASSERT_EQ(got.shape(), want.shape());
  const std::vector<double> a = got.ToDoubles(), b = want.ToDoubles();
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], tolerance) << i;
}

Tensor TokensOf(int64_t batch, int64_t pos) {
  Tensor tokens = Tensor::Uninitialized({batch, pos}, kI64);
  for (int64_t i = 0; i < tokens.elements(); ++i) {
    tokens.mutable_data<int64_t>()[i] = (i * 7 + i / 5) % 9;
  }
  return tokens;
}

// What is behind a row's own positions is not seen, whatever is pooled and read.
TEST(SequenceClassifierTest, PaddingChangesNothing) {
  for (const Pooling pooling : {Pooling::kMean, Pooling::kLast}) {
    for (const bool both : {false, true}) {
      ClassifierConfig config = Config(2);
      config.pooling = pooling;
      config.body.s4_bidirectional = both;
      const auto model = Model(config);
      const Tensor x = RandomNormal({2, 11, 2}, 5);
      const std::vector<int64_t> lengths = {11, 7};
      const Tensor padded = model->Forward(x, lengths);
      ExpectNear(padded.Rows(0, 1), model->Forward(x.Rows(0, 1)), 1e-12);
      ExpectNear(padded.Rows(1, 2), model->Forward(Slice(x.Rows(1, 2), 1, 0, 7)), 1e-12);
    }
  }
}

// The head's input is the mean of the last stream, or its last position.
TEST(SequenceClassifierTest, PoolsTheStream) {
  for (const Pooling pooling : {Pooling::kMean, Pooling::kLast}) {
    ClassifierConfig config = Config(0);
    config.pooling = pooling;
    const auto model = Model(config);
    Tensor normalized, pooled;
    Hooks hooks;
    hooks.Read("ln_final.hook_out", [&](absl::string_view, const Tensor& x) { normalized = x; });
    hooks.Read("hook_pooled", [&](absl::string_view, const Tensor& x) { pooled = x; });
    model->Forward(TokensOf(2, 5), {}, nullptr, &hooks);
    ASSERT_EQ(pooled.shape(), Shape({2, 6}));
    for (int64_t row = 0; row < 2; ++row) {
      for (int64_t k = 0; k < 6; ++k) {
        double want = 0;
        for (int64_t t = 0; t < 5; ++t) {
          const double value = normalized.data<double>()[(row * 5 + t) * 6 + k];
          want = pooling == Pooling::kMean ? want + value / 5 : value;
        }
        EXPECT_NEAR(pooled.data<double>()[row * 6 + k], want, 1e-12);
      }
    }
  }
}

// A pixel or some at a time, with what is kept the same after 3 positions as after 12.
TEST(SequenceClassifierTest, ChunksGiveTheSameLogits) {
  for (const Pooling pooling : {Pooling::kMean, Pooling::kLast}) {
    ClassifierConfig config = Config(2);
    config.pooling = pooling;
    const auto model = Model(config);
    const Tensor x = RandomNormal({3, 12, 2}, 5);
    size_t bytes[2];
    for (const int64_t chunk : {1, 5, 12}) {
      ExpectNear(model->ForwardInChunks(x, chunk, &bytes[0]), model->Forward(x), 1e-9);
    }
    model->ForwardInChunks(Slice(x, 1, 0, 3), 1, &bytes[1]);
    EXPECT_EQ(bytes[0], bytes[1]);
    EXPECT_GT(bytes[0], 0);
  }
}

TEST(SequenceClassifierTest, GradientsMatchDifferences) {
  for (const int64_t channels : {0, 2}) {
    const auto model = Model(Config(channels));
    const Tensor x = channels == 0 ? TokensOf(2, 12) : RandomNormal({2, 12, 2}, 5);
    const Tensor g = RandomNormal({2, 4}, 6);
    const auto loss = [&] {
      double sum = 0;
      const std::vector<double> logits = model->Forward(x).ToDoubles();
      for (size_t i = 0; i < logits.size(); ++i) sum += logits[i] * g.data<double>()[i];
      return sum;
    };
    std::vector<Parameter> parameters = Parameters(*model);
    std::vector<Tensor> grads;
    {
      Tape tape;
      for (Parameter& p : parameters) tape.Watch(*p.value);
      const Gradients found = tape.Backward({model->Forward(x)}, {g}, {});
      for (Parameter& p : parameters) grads.push_back(found[*p.value]);
      for (Parameter& p : parameters) p.value->set_tape_ref({});
    }
    for (size_t i = 0; i < parameters.size(); ++i) {
      const Tensor original = *parameters[i].value;
      const Tensor direction = RandomNormal(original.shape(), 100 + i);
      double analytic = 0, losses[2];
      for (int64_t j = 0; j < original.elements(); ++j) {
        analytic += grads[i].data<double>()[j] * direction.data<double>()[j];
      }
      for (int side = 0; side < 2; ++side) {
        Tensor moved = original.Clone();
        for (int64_t j = 0; j < original.elements(); ++j) {
          moved.mutable_data<double>()[j] += (2 * side - 1) * 1e-5 * direction.data<double>()[j];
        }
        *parameters[i].value = moved;
        losses[side] = loss();
      }
      *parameters[i].value = original;
      const double numeric = (losses[1] - losses[0]) / 2e-5;
      EXPECT_NEAR(analytic, numeric, 1e-5 * (1 + std::abs(numeric))) << parameters[i].name;
    }
  }
}

TEST(SequenceClassifierTest, WhatIsDeclaredFires) {
  const auto model = Model(Config(2));
  std::set<std::string> declared, fired;
  for (const DeclaredHook& hook : HookPoints(*model)) declared.insert(hook.name);
  Hooks hooks;
  hooks.Read("*", [&](absl::string_view name, const Tensor&) { fired.insert(std::string(name)); });
  model->Forward(RandomNormal({1, 3, 2}, 1), {}, nullptr, &hooks);
  EXPECT_EQ(fired, declared);
  EXPECT_EQ(declared.count("blocks.1.mixer.hook_state"), 1);
}

TEST(SequenceClassifierTest, SaysWhatAConfigShouldBe) {
  const auto message = [](auto change) {
    ClassifierConfig c = Config(1);
    change(c);
    return std::string(SequenceClassifier::Make(c).status().message());
  };
  EXPECT_EQ(message([](ClassifierConfig& c) { c.n_classes = 1; }),
            "'n_classes' is 1, expected at least 2");
  EXPECT_EQ(message([](ClassifierConfig& c) { c.channels = -1; }),
            "'channels' is -1, expected at least 0");
  EXPECT_EQ(message([](ClassifierConfig& c) { c.body.positions = Positions::kLearned; }),
            "'positions' is \"standard\", expected none, rotary or alibi: a classifier has no "
            "table of them");
  EXPECT_EQ(message([](ClassifierConfig& c) { c.scale = 0; }),
            "'scale' is 0, expected a number above 0");
  EXPECT_EQ(message([](ClassifierConfig& c) { c.body.d_state = 3; }),
            "'d_state' is 3, expected an even number in [2, 4096]: states come as pairs of "
            "conjugates");
}

}  // namespace
}  // namespace residual
