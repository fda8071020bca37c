#include "interp/attribution/decomposition.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "interp/testing/golden.h"
#include "interp/weights/process_weights.h"
#include "models/transformer/transformer.h"

namespace residual {
namespace {

void ExpectClose(const Tensor& got, const Tensor& want, double tolerance) {
  ASSERT_EQ(got.shape(), want.shape());
  const std::vector<double> a = got.ToDoubles(), b = want.ToDoubles();
  for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], tolerance) << i;
}

TransformerConfig SmallConfig() {
  TransformerConfig config;
  config.d_model = 12;
  config.n_ctx = 8;
  config.d_vocab = 17;
  config.blocks = {{"attn", "mlp"}, {"attn"}, {"mlp"}};
  config.n_heads = 4;
  config.d_head = 3;
  config.d_mlp = 10;
  return config;
}

TEST(DecompositionTest, AgreesWithTransformerLens) {
  for (const bool process : {false, true}) {
    const auto model = GoldenModel();
    if (process) {
      ASSERT_TRUE(ProcessWeights(*model).ok());
    }
    const std::string weights = process ? "processed." : "raw.";
    DecomposeOptions options;
    options.heads = true;
    const auto found = DecomposeStream(*model, {Golden("clean")}, options);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->parts.labels,
              std::vector<std::string>({"embed", "pos_embed", "0_attn_out", "1_attn_out"}));
    EXPECT_EQ(found->accumulated.labels,
              std::vector<std::string>({"0_pre", "1_pre", "final_post"}));
    EXPECT_EQ(found->heads.labels,
              std::vector<std::string>({"L0H0", "L0H1", "L0H2", "L1H0", "L1H1", "L1H2"}));
    ExpectClose(found->parts.Stack(), Golden(weights + "decompose_resid"), 2e-5);
    ExpectClose(found->heads.Stack(), Golden(weights + "stack_head_results"), 2e-5);
    EXPECT_LT(found->error, 1e-6);
  }
}

TEST(DecompositionTest, PartsOfEveryKindOfBlockAddUp) {
  for (const bool parallel : {false, true}) {
    for (const Positions positions :
         {Positions::kLearned, Positions::kRotary, Positions::kShortformer, Positions::kNone}) {
      TransformerConfig config = SmallConfig();
      config.parallel = parallel;
      config.positions = positions;
      config.rotary_dim = 2;
      config.gated_mlp = parallel;
      config.norm = parallel ? NormKind::kRmsNorm : NormKind::kLayerNorm;
      const auto model = BuildTransformer(config);
      Initialize(*model, 3, kF64);
      const Tensor tokens = Tensor::Of<int64_t>({2, 4}, {1, 2, 3, 4, 5, 6, 7, 8});
      DecomposeOptions options;
      options.heads = options.neurons = true;
      const auto found = DecomposeStream(*model, {tokens}, options);
      ASSERT_TRUE(found.ok()) << found.status();
      EXPECT_LT(found->error, 1e-14);
      EXPECT_EQ(found->parts.labels.size(), positions == Positions::kLearned ? 6 : 5);
      EXPECT_EQ(found->parts.labels.back(), "2_mlp_out");
      EXPECT_EQ(found->accumulated.labels,
                parallel
                    ? std::vector<std::string>({"0_pre", "1_pre", "2_pre", "final_post"})
                    : std::vector<std::string>({"0_pre", "0_mid", "1_pre", "2_pre", "final_post"}));
      EXPECT_EQ(found->heads.labels.size(), 8);
      EXPECT_EQ(found->neurons.labels, std::vector<std::string>({"0_mlp", "2_mlp"}));
      EXPECT_EQ(found->neurons.values[1].shape(), Shape({2, 4, 10}));
      // Heads add up to their layer's part, but for the bias.
      const std::vector<double> whole =
          found->parts.values[found->parts.labels.size() - 2].ToDoubles();
      std::vector<double> sum(whole.size(), 0.0);
      for (int h = 4; h < 8; ++h) {
        const std::vector<double> head = found->heads.values[h].ToDoubles();
        for (size_t i = 0; i < sum.size(); ++i) sum[i] += head[i];
      }
      for (size_t i = 0; i < sum.size(); ++i) {
        EXPECT_NEAR(sum[i] - whole[i], sum[i % 12] - whole[i % 12], 1e-14);
      }
    }
  }
}

TEST(DecompositionTest, NaNIsNamed) {
  const auto model = BuildTransformer(SmallConfig());
  Initialize(*model, 5);
  for (const Parameter& p : Parameters(*model)) {
    if (p.name != "blocks.1.attn.W_O") continue;
    p.value->mutable_data<float>()[3] = std::numeric_limits<float>::quiet_NaN();
  }
  const auto found = DecomposeStream(*model, {Tensor::Of<int64_t>({1, 2}, {1, 2})});
  EXPECT_EQ(found.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(found.status().message(), "the run's 'blocks.2.hook_resid_post' holds NaN");
}

TEST(DecompositionTest, PostNormsAndBadTokensAreRefused) {
  TransformerConfig config = SmallConfig();
  config.norm_placement = NormPlacement::kPost;
  const auto model = BuildTransformer(config);
  Initialize(*model, 3);
  const Tensor tokens = Tensor::Of<int64_t>({1, 2}, {1, 2});
  const absl::Status status = DecomposeStream(*model, {tokens}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_TRUE(absl::StrContains(status.message(), "block 0 has the norm 'ln1'")) << status;

  const auto good = BuildTransformer(SmallConfig());
  Initialize(*good, 3);
  EXPECT_EQ(DecomposeStream(*good, {Tensor::Of<int64_t>({1, 2}, {1, 17})}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace residual
