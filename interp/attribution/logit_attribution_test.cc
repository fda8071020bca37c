#include "interp/attribution/logit_attribution.h"

#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "interp/testing/golden.h"
#include "interp/weights/process_weights.h"
#include "models/transformer/transformer.h"

namespace residual {
namespace {

std::vector<int64_t> Ids(const Tensor& x) {
  const Tensor ids = ConvertTo(x, kI64);
  return {ids.data<int64_t>(), ids.data<int64_t>() + ids.elements()};
}

TEST(LogitAttributionTest, AgreesWithTransformerLensOnProcessedWeights) {
  const auto model = GoldenModel();
  ASSERT_TRUE(ProcessWeights(*model).ok());
  DecomposeOptions options;
  options.heads = true;
  const Decomposition found = *DecomposeStream(*model, {Golden("clean")}, options);
  LogitTargets targets;
  targets.answer = Ids(Golden("answer"));
  targets.wrong = Ids(Golden("wrong"));
  const auto directions = DirectionsOf(*model, found, targets);
  ASSERT_TRUE(directions.ok()) << directions.status();
  const auto close = [](const Tensor& got, const Tensor& want) {
    ASSERT_EQ(got.shape(), want.shape());
    for (int64_t i = 0; i < want.elements(); ++i) {
      EXPECT_NEAR(got.data<float>()[i], want.data<float>()[i], 1e-5) << i;
    }
  };
  close(Attribute(found.parts, *directions), Golden("processed.logit_attrs_last"));
  close(Attribute(found.heads, *directions), Golden("processed.logit_attrs_heads_last"));
  const double mean = (directions->difference[0] + directions->difference[1]) / 2;
  EXPECT_NEAR(mean, Golden("processed.logit_diff_clean").Item(), 1e-5);
}

// Whatever the norm, tied or not, against the mean or one other logit, at any position.
TEST(LogitAttributionTest, PartsAddUpToTheDifference) {
  for (const NormKind norm : {NormKind::kLayerNorm, NormKind::kRmsNorm, NormKind::kNone}) {
    for (const bool tied : {false, true}) {
      for (const bool against_mean : {false, true}) {
        TransformerConfig config;
        config.d_model = 12;
        config.n_ctx = 8;
        config.d_vocab = 17;
        config.blocks = {{"attn", "mlp"}, {"attn", "mlp"}};
        config.n_heads = 4;
        config.d_head = 3;
        config.d_mlp = 10;
        config.norm = norm;
        config.tied = tied;
        config.unembed_bias = !tied;
        const auto model = BuildTransformer(config);
        Initialize(*model, 3, kF64);
        // Gains and biases that are not what they start as.
        for (const Parameter& parameter : Parameters(*model)) {
          double* x = parameter.value->mutable_data<double>();
          for (int64_t i = 0; i < parameter.value->elements(); ++i) x[i] += 0.1 * std::sin(7.0 * i);
        }
        const Tensor tokens = Tensor::Of<int64_t>({2, 4}, {1, 2, 3, 4, 5, 6, 7, 8});
        DecomposeOptions options;
        options.neurons = true;
        const Decomposition found = *DecomposeStream(*model, {tokens}, options);
        LogitTargets targets;
        targets.answer = {3, 16};
        if (!against_mean) targets.wrong = {0, 5};
        targets.position = {3, 1};
        const LogitDirections directions = *DirectionsOf(*model, found, targets);
        const Tensor parts = Attribute(found.parts, directions);
        const Tensor neurons = *AttributeNeurons(*model, found, directions);
        ASSERT_EQ(neurons.shape(), Shape({2, 2, 10}));
        for (int row : {0, 1}) {
          double sum = directions.bias[row];
          for (int64_t i = 0; i < parts.dim(0); ++i) sum += parts.data<float>()[i * 2 + row];
          EXPECT_NEAR(sum, directions.difference[row], 2e-6);
          // Neurons and the output bias add up to their layer's part.
          for (int layer : {0, 1}) {
            double from_neurons = 0;
            for (int n = 0; n < 10; ++n) {
              from_neurons += neurons.data<float>()[(layer * 2 + row) * 10 + n];
            }
            const std::string name = "blocks." + std::to_string(layer) + ".mlp.b_out";
            for (const Parameter& parameter : Parameters(*model)) {
              if (parameter.name != name) continue;
              for (int k = 0; k < 12; ++k) {
                from_neurons += parameter.value->data<double>()[k] *
                                directions.direction.data<double>()[row * 12 + k];
              }
            }
            const size_t part = found.parts.labels.size() - (layer == 0 ? 3 : 1);
            EXPECT_NEAR(from_neurons, parts.data<float>()[part * 2 + row], 2e-6);
          }
        }
      }
    }
  }
}

TEST(LogitAttributionTest, TheLastTokenOfAPaddedRow) {
  const auto model = GoldenModel();
  ModelInput input{Tensor::Of<int64_t>({2, 3}, {1, 2, 3, 4, 5, 0})};
  input.attention_mask = Tensor::Of<bool>({2, 3}, {true, true, true, true, true, false});
  const Decomposition found = *DecomposeStream(*model, input);
  LogitTargets targets;
  targets.answer = {1, 2};
  const auto directions = DirectionsOf(*model, found, targets, input.attention_mask);
  ASSERT_TRUE(directions.ok());
  EXPECT_EQ(directions->position, std::vector<int64_t>({2, 1}));
  // No MLP: no neurons.
  EXPECT_FALSE(AttributeNeurons(*model, found, *directions)->defined());
}

TEST(LogitAttributionTest, WrongTargetsAreNamed) {
  const auto model = GoldenModel();
  const Decomposition found = *DecomposeStream(*model, {Tensor::Of<int64_t>({1, 3}, {1, 2, 3})});
  auto error = [&](const LogitTargets& targets) {
    const absl::Status status = DirectionsOf(*model, found, targets).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_EQ(error({{1, 2}, {}, {}}), "answer: found 2 for 1 row of tokens, expected one for each");
  EXPECT_EQ(error({{89}, {}, {}}), "answer: 89 is outside the vocabulary of 89");
  EXPECT_EQ(error({{1}, {-1}, {}}), "wrong: -1 is outside the vocabulary of 89");
  EXPECT_EQ(error({{1}, {}, {3}}), "position: 3 is outside the length of 3");
}

}  // namespace
}  // namespace residual
