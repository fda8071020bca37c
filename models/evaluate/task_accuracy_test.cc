#include "models/evaluate/task_accuracy.h"

#include <algorithm>
#include <memory>

#include "gtest/gtest.h"
#include "models/transformer/transformer.h"
#include "tensor/base/random.h"

namespace residual {
namespace {

constexpr int64_t kContext = 17, kVocabulary = 5;

// Random tokens; targets at random places, some rows and parts of rows without any.
class RandomAnswers : public DataSource {
 public:
  TrainingBatch Batch(uint64_t seed, int64_t step, int64_t batch_size) const override {
    ADD_FAILURE() << "training rows must not be measured";
    return {};
  }
  TrainingBatch EvalBatch(uint64_t seed, int64_t index, int64_t batch_size) const override {
    TrainingBatch batch{Tensor::Uninitialized({batch_size, kContext}, kI64),
                        Tensor::Uninitialized({batch_size, kContext}, kI64)};
    const Philox random(seed, index);
    for (int64_t i = 0; i < batch_size * kContext; ++i) {
      batch.tokens.mutable_data<int64_t>()[i] = random.Below(2 * i, kVocabulary);
      const bool asks = (i / 4) % 3 == 0;
      batch.targets.mutable_data<int64_t>()[i] =
          asks ? random.Below(2 * i + 1, kVocabulary) : kIgnoreTarget;
    }
    return batch;
  }
  int64_t d_vocab() const override { return kVocabulary; }
  int64_t context() const override { return kContext; }
};

std::unique_ptr<ResidualModel> Model(int64_t n_ctx) {
  TransformerConfig c;
  c.d_model = 16;
  c.n_ctx = n_ctx;
  c.d_vocab = kVocabulary;
  c.blocks = {{"attn"}, {"mlp"}};
  c.n_heads = 2;
  c.d_head = 8;
  c.d_mlp = 24;
  c.init_scale = 0.4;
  auto model = BuildTransformer(c);
  Initialize(*model, 3);
  return model;
}

TEST(TaskAccuracyTest, IsThatOfWholeRowsForAnyChunkAndBatch) {
  const auto model = Model(kContext);
  const RandomAnswers data;
  for (const int64_t batch_size : {1, 3, 8}) {
    int64_t right = 0, answers = 0;
    for (int64_t begin = 0, index = 0; begin < 8; begin += batch_size, ++index) {
      const TrainingBatch batch =
          data.EvalBatch(7, index, std::min<int64_t>(batch_size, 8 - begin));
      const Tensor logits = model->Forward({batch.tokens});
      for (int64_t i = 0; i < batch.targets.elements(); ++i) {
        const int64_t target = batch.targets.data<int64_t>()[i];
        if (target == kIgnoreTarget) continue;
        const float* row = logits.data<float>() + i * kVocabulary;
        ++answers;
        right += std::all_of(row, row + kVocabulary, [&](float x) { return x <= row[target]; });
      }
    }
    for (const int64_t chunk : {1, 5, 16, 17, 100}) {
      const auto got = MeasureTaskAccuracy(*model, data, 7, 8, batch_size, chunk);
      ASSERT_TRUE(got.ok()) << got.status();
      EXPECT_EQ(got->right, right) << batch_size << ", " << chunk;
      EXPECT_EQ(got->answers, answers);
      EXPECT_GT(got->state_bytes, 0);
    }
    EXPECT_GT(right, 0);
    EXPECT_LT(right, answers);
  }
}

TEST(TaskAccuracyTest, RowsBeyondTheContextAreRefused) {
  const auto got = MeasureTaskAccuracy(*Model(kContext - 1), RandomAnswers(), 7, 2, 2, 4);
  EXPECT_EQ(got.status().code(), absl::StatusCode::kInvalidArgument) << got.status();
}

}  // namespace
}  // namespace residual
