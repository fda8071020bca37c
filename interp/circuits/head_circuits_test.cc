#include "interp/circuits/head_circuits.h"

#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "interp/testing/golden.h"
#include "interp/weights/process_weights.h"
#include "models/transformer/transformer.h"

namespace residual {
namespace {

// What is folded is what the model computes: scores and results from the folded weights.
TEST(HeadCircuitsTest, ProcessedWeightsReadTheNormalisedStream) {
  const auto model = GoldenModel(kF64);
  const HeadCircuits circuits = *ReadHeadCircuits(*model);
  const Tensor tokens = Golden("repeated");
  std::vector<double> normalized, q, bias;
  Hooks hooks;
  hooks.Read("blocks.1.ln1.hook_normalized",
             [&](absl::string_view, const Tensor& x) { normalized = x.ToDoubles(); });
  hooks.Read("blocks.1.attn.hook_q",
             [&](absl::string_view, const Tensor& x) { q = x.ToDoubles(); });
  ASSERT_TRUE(model->Run({tokens}, &hooks).ok());
  const Eigen::RowVectorXd x0 = Eigen::Map<Eigen::RowVectorXd>(normalized.data(), 24);
  const Eigen::RowVectorXd x1 = Eigen::Map<Eigen::RowVectorXd>(normalized.data() + 24, 24);
  for (int h = 0; h < 3; ++h) {
    // The difference of two positions has no bias in it.
    const Eigen::RowVectorXd got = (x1 - x0) * circuits.heads[1][h].W_Q;
    for (int i = 0; i < 8; ++i) EXPECT_NEAR(got[i], q[(3 + h) * 8 + i] - q[h * 8 + i], 1e-9);
  }
}

// The same circuits as those of the model rewritten as a whole.
TEST(HeadCircuitsTest, AgreesWithProcessWeights) {
  const HeadCircuits folded = *ReadHeadCircuits(*GoldenModel(kF64));
  const auto rewritten = GoldenModel(kF64);
  ASSERT_TRUE(ProcessWeights(*rewritten).ok());
  const HeadCircuits read = *ReadHeadCircuits(*rewritten, false);
  EXPECT_LT((folded.vocabulary.W_E() - read.vocabulary.W_E()).norm(), 1e-12);
  EXPECT_LT((folded.vocabulary.W_U() - read.vocabulary.W_U()).norm(), 1e-12);
  for (int i = 0; i < 6; ++i) {
    const HeadCircuits::Head &a = folded.heads[i / 3][i % 3], &b = read.heads[i / 3][i % 3];
    EXPECT_LT((a.W_Q - b.W_Q).norm(), 1e-12);
    EXPECT_LT((a.W_K - b.W_K).norm(), 1e-12);
    EXPECT_LT((a.W_V - b.W_V).norm(), 1e-12);
    EXPECT_LT((a.W_O - b.W_O).norm(), 1e-12);
  }
}

TEST(HeadCircuitsTest, GroupedQueriesShareKeysAndValues) {
  TransformerConfig config;
  config.d_model = 12;
  config.n_ctx = 8;
  config.d_vocab = 5;
  config.blocks = {{"attn", "mlp"}, {"mlp"}};
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.d_head = 3;
  config.d_mlp = 8;
  config.tied = true;
  const auto model = BuildTransformer(config);
  Initialize(*model, 3);
  const HeadCircuits circuits = *ReadHeadCircuits(*model, false);
  ASSERT_EQ(circuits.heads.size(), 2);
  ASSERT_EQ(circuits.heads[0].size(), 4);
  EXPECT_TRUE(circuits.heads[1].empty());
  const auto& heads = circuits.heads[0];
  EXPECT_EQ(heads[0].W_K, heads[1].W_K);
  EXPECT_EQ(heads[2].W_V, heads[3].W_V);
  EXPECT_NE(heads[1].W_K, heads[2].W_K);
  EXPECT_NE(heads[0].W_Q, heads[1].W_Q);
  EXPECT_EQ(circuits.vocabulary.W_U(), circuits.vocabulary.W_E().transpose());

  config.blocks = {{"mlp"}};
  const auto mlp = BuildTransformer(config);
  Initialize(*mlp, 3);
  EXPECT_EQ(ReadHeadCircuits(*mlp).status().code(), absl::StatusCode::kNotFound);
}

// A norm after the sum is no part of a read.
TEST(HeadCircuitsTest, NaNIsNamed) {
  for (const char* name : {"blocks.1.attn.W_Q", "blocks.0.attn.W_O"}) {
    const auto model = GoldenModel();
    for (const Parameter& p : Parameters(*model)) {
      if (p.name != name) continue;
      p.value->mutable_data<float>()[7] = std::numeric_limits<float>::quiet_NaN();
    }
    const absl::Status status = ReadHeadCircuits(*model).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(std::string(status.message()), "'" + std::string(name) + "' holds NaN");
  }
}

TEST(HeadCircuitsTest, PostNormsAreNotFolded) {
  TransformerConfig config;
  config.d_model = 12;
  config.n_ctx = 8;
  config.d_vocab = 5;
  config.blocks = {{"attn"}};
  config.n_heads = 2;
  config.d_head = 3;
  config.norm_placement = NormPlacement::kPost;
  const auto model = BuildTransformer(config);
  Initialize(*model, 3);
  EXPECT_EQ(ReadHeadCircuits(*model, true)->heads[0][0].W_Q,
            ReadHeadCircuits(*model, false)->heads[0][0].W_Q);
}

// The products over the vocabulary, without the processed matrices, are those with them: every kind
// of output and of processing.
TEST(VocabularyTest, ProductsAreThoseOfTheMatrices) {
  for (const bool process : {false, true}) {
    for (const bool tied : {false, true}) {
      for (const NormKind norm : {NormKind::kLayerNorm, NormKind::kRmsNorm, NormKind::kNone}) {
        TransformerConfig config;
        config.d_model = 12;
        config.n_ctx = 8;
        config.d_vocab = 37;
        config.blocks = {{"attn"}};
        config.n_heads = 2;
        config.d_head = 3;
        config.norm = norm;
        config.tied = tied;
        const auto model = BuildTransformer(config);
        Initialize(*model, 5, kF64);
        for (const Parameter& parameter : Parameters(*model)) {
          if (parameter.name != "ln_final.w") continue;
          for (int i = 0; i < 12; ++i) parameter.value->mutable_data<double>()[i] = 0.5 + 0.1 * i;
        }
        const HeadCircuits circuits = *ReadHeadCircuits(*model, process);
        const Vocabulary& vocabulary = circuits.vocabulary;
        const RowMatrix W_E = vocabulary.W_E(), W_U = vocabulary.W_U();
        EXPECT_LT((vocabulary.EmbedGram() - W_E.transpose() * W_E).norm(), 1e-12);
        EXPECT_LT((vocabulary.UnembedTimesEmbed() - W_U * W_E).norm(), 1e-12);
        const HeadCircuits::Head& head = circuits.heads[0][1];
        auto matrix = [](const Tensor& x) -> RowMatrix {
          return Eigen::Map<const RowMatrix>(x.data<double>(), x.dim(0), x.dim(1));
        };
        EXPECT_LT((matrix(vocabulary.Embed(head.W_V)) - W_E * head.W_V).norm(), 1e-12);
        EXPECT_LT((matrix(vocabulary.Unembed(head.W_O)) - head.W_O * W_U).norm(), 1e-12);
      }
    }
  }
}

}  // namespace
}  // namespace residual
