#include "models/stream/token_loss.h"

#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "models/transformer/transformer.h"
#include "ops/elementwise/elementwise.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

constexpr int64_t kRows = 23, kModel = 6, kVocab = 17;

UnembedLossArgs RandomArgs(DType dtype, bool transposed, bool bias) {
  UnembedLossArgs args;
  args.x = RandomNormal({kRows, kModel}, 1, dtype);
  args.transposed = transposed;
  args.weight = RandomNormal(transposed ? Shape{kVocab, kModel} : Shape{kModel, kVocab}, 2, dtype);
  if (bias) args.bias = RandomNormal({kVocab}, 3, dtype);
  args.targets = Tensor::Uninitialized({kRows}, kI64);
  for (int64_t i = 0; i < kRows; ++i) args.targets.mutable_data<int64_t>()[i] = i * 5 % kVocab;
  return args;
}

// The loss and its gradients, through a factor that is not 1.
std::vector<Tensor> LossAndGradients(UnembedLossArgs args, const CrossEntropyOptions& options) {
  Tape tape;
  tape.Watch(args.x);
  tape.Watch(args.weight);
  if (args.bias.defined()) tape.Watch(args.bias);
  const Tensor loss = UnembedLoss(args, options);
  const Gradients found = tape.Backward(Scale(loss, 3));
  std::vector<Tensor> results = {loss, found[args.x], found[args.weight]};
  if (args.bias.defined()) results.push_back(found[args.bias]);
  return results;
}

void ExpectNear(const std::vector<Tensor>& got, const std::vector<Tensor>& want, double tolerance,
                const std::string& what) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].shape(), want[i].shape()) << what;
    ASSERT_EQ(got[i].dtype(), want[i].dtype()) << what;
    const std::vector<double> g = got[i].ToDoubles(), w = want[i].ToDoubles();
    for (size_t j = 0; j < g.size(); ++j) {
      ASSERT_NEAR(g[j], w[j], tolerance) << what << ", result " << i << ", element " << j;
    }
  }
}

TEST(UnembedLossTest, PartsAreTheWhole) {
  for (const DType dtype : {kF64, kF32}) {
    for (const bool transposed : {false, true}) {
      for (const bool bias : {false, true}) {
        for (const Reduction reduction : {Reduction::kMean, Reduction::kSum}) {
          UnembedLossArgs args = RandomArgs(dtype, transposed, bias);
          args.targets.mutable_data<int64_t>()[4] = -100;
          CrossEntropyOptions options;
          options.reduction = reduction;
          options.label_smoothing = 0.1;
          const std::vector<Tensor> whole = LossAndGradients(args, options);
          // One row at a time, a few, all but one; fewer than a row is a row.
          for (const int64_t at_once :
               {kVocab, 3 * kVocab + 1, 8 * kVocab, (kRows - 1) * kVocab, int64_t{1}}) {
            args.logits_at_once = at_once;
            ExpectNear(LossAndGradients(args, options), whole, dtype == kF64 ? 1e-13 : 1e-4,
                       std::to_string(at_once));
            EXPECT_NEAR(UnembedLoss(args, options).Item(), whole[0].Item(), 1e-6 * whole[0].Item());
          }
        }
      }
    }
  }
}

TEST(UnembedLossTest, WholeIsTheFormula) {
  UnembedLossArgs args = RandomArgs(kF64, false, true);
  const Tensor logits = Add(MatMul(args.x, args.weight), args.bias);
  EXPECT_NEAR(UnembedLoss(args).Item(), CrossEntropy(logits, args.targets).Item(), 1e-14);
  args.logits_at_once = 2 * kVocab;
  EXPECT_NEAR(UnembedLoss(args).Item(), CrossEntropy(logits, args.targets).Item(), 1e-14);
}

TEST(UnembedLossTest, NothingCounts) {
  UnembedLossArgs args = RandomArgs(kF32, true, false);
  for (int64_t i = 0; i < kRows; ++i) args.targets.mutable_data<int64_t>()[i] = -100;
  args.logits_at_once = 4 * kVocab;
  const std::vector<Tensor> results = LossAndGradients(args, {});
  EXPECT_TRUE(std::isnan(results[0].Item()));
  for (size_t i = 1; i < results.size(); ++i) {
    for (const double value : results[i].ToDoubles()) EXPECT_EQ(value, 0);
  }
}

// Gradients are made only of what a tape watches.
TEST(UnembedLossTest, GradientOfTheStreamAlone) {
  UnembedLossArgs args = RandomArgs(kF64, false, false);
  const std::vector<Tensor> all = LossAndGradients(args, {});
  args.logits_at_once = 5 * kVocab;
  Tape tape;
  tape.Watch(args.x);
  const Tensor loss = UnembedLoss(args);
  ExpectNear({tape.Backward(Scale(loss, 3))[args.x]}, {all[1]}, 1e-14, "x");
}

TEST(UnembedLossTest, SameBitsForAnyNumberOfThreads) {
  const int before = NumThreads();
  for (const Precision precision : {Precision::kFull, Precision::kBF16}) {
    UnembedLossArgs args = RandomArgs(kF32, false, true);
    args.logits_at_once = 7 * kVocab;
    args.precision = precision;
    SetNumThreads(1);
    const std::vector<Tensor> one = LossAndGradients(args, {});
    for (const int threads : {2, 3}) {
      SetNumThreads(threads);
      const std::vector<Tensor> results = LossAndGradients(args, {});
      for (size_t i = 0; i < one.size(); ++i) ExpectIdentical(results[i], one[i], "results");
    }
  }
  SetNumThreads(before);
}

TEST(TokenLossTest, IsOfTheModelsLogits) {
  for (const bool tied : {false, true}) {
    TransformerConfig config;
    config.d_model = 8;
    config.n_ctx = 6;
    config.d_vocab = 13;
    config.blocks = {{"attn", "mlp"}};
    config.n_heads = 2;
    config.d_head = 4;
    config.d_mlp = 16;
    config.tied = tied;
    config.resid_dropout = 0.3;
    const std::unique_ptr<ResidualModel> model = BuildTransformer(config);
    Initialize(*model, 3, kF64);
    ModelInput input{Tensor::Of<int64_t>({2, 6}, {1, 5, 2, 12, 0, 3, 7, 7, 4, 9, 11, 10})};
    const Tensor targets = Tensor::Of<int64_t>({2, 6}, {5, 2, 12, 0, 3, 4, 7, 4, 9, 11, 10, 1});
    MixerContext training;
    training.seed = 8;
    const Tensor plain = TokenLoss(*model, input, targets);
    EXPECT_EQ(plain.Item(), CrossEntropy(model->Forward(input), targets).Item());
    const Tensor dropped = TokenLoss(*model, input, targets, {}, &training);
    EXPECT_EQ(dropped.Item(),
              CrossEntropy(model->Forward(input, nullptr, nullptr, &training), targets).Item());
    EXPECT_NE(dropped.Item(), plain.Item());
  }
}

TEST(TokenLossTest, GoesOnFromAState) {
  TransformerConfig config;
  config.d_model = 8;
  config.n_ctx = 8;
  config.d_vocab = 13;
  config.blocks = {{"attn", "mlp"}};
  config.n_heads = 2;
  config.d_head = 4;
  config.d_mlp = 16;
  const std::unique_ptr<ResidualModel> model = BuildTransformer(config);
  Initialize(*model, 3, kF64);
  const Tensor tokens = Tensor::Of<int64_t>({2, 4}, {1, 5, 2, 12, 7, 7, 4, 9});
  const Tensor targets = Tensor::Of<int64_t>({2, 4}, {5, 2, 12, 0, 7, 4, 9, 11});
  ModelState past = model->NewState(2);
  model->NextLogits({Tensor::Of<int64_t>({2, 3}, {8, 3, 6, 0, 10, 2})}, &past);
  ModelState fork = past.Fork();
  const double expected = CrossEntropy(model->Forward({tokens}, &fork), targets).Item();
  for (int i = 0; i < 2; ++i) {  // the second time, too: it is left as it was
    EXPECT_EQ(TokenLoss(*model, {tokens}, targets, {}, nullptr, &past).Item(), expected);
    EXPECT_EQ(past.length(), 3);
  }
  EXPECT_NE(TokenLoss(*model, {tokens}, targets).Item(), expected);
}

}  // namespace
}  // namespace residual
