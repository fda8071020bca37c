#include "interp/circuits/head_circuits.h"

#include <cmath>
#include <functional>
#include <string>

#include "Eigen/Eigenvalues"
#include "gtest/gtest.h"
#include "interp/testing/golden.h"
#include "interp/testing/planted_circuit.h"
#include "interp/weights/process_weights.h"
#include "models/transformer/transformer.h"

namespace residual {
namespace {

TEST(HeadCircuitsTest, AgreesWithTransformerLens) {
  const auto model = GoldenModel();
  struct Circuit {
    const char* name;
    std::function<FactoredMatrix(const HeadCircuits&, const HeadCircuits::Head&)> of;
  };
  using Head = HeadCircuits::Head;
  const Circuit kCircuits[] = {
      {"OV", [](const HeadCircuits&, const Head& h) { return h.OV(); }},
      {"QK", [](const HeadCircuits&, const Head& h) { return h.QK(); }},
      {"full_OV", [](const HeadCircuits& c, const Head& h) { return c.FullOV(h); }},
      {"full_QK", [](const HeadCircuits& c, const Head& h) { return c.FullQK(h); }}};
  for (const bool process : {false, true}) {
    const absl::StatusOr<HeadCircuits> circuits = ReadHeadCircuits(*model, process);
    ASSERT_TRUE(circuits.ok()) << circuits.status();
    const std::string weights = process ? "processed." : "raw.";
    for (const Circuit& circuit : kCircuits) {
      const auto singular = Golden(weights + circuit.name + ".singular_values").ToDoubles();
      const auto eigen = Golden(weights + circuit.name + ".eigenvalues_abs_sorted").ToDoubles();
      const auto copying = Golden(weights + circuit.name + ".eigenvalue_copying_score").ToDoubles();
      for (int i = 0; i < 6; ++i) {
        const FactoredMatrix matrix = circuit.of(*circuits, circuits->heads[i / 3][i % 3]);
        const std::string what = weights + circuit.name + " " + std::to_string(i);
        const std::vector<double> values = matrix.SingularValues();
        const auto lambda = matrix.Eigenvalues();
        for (int r = 0; r < 8; ++r) {
          const double tolerance = 1e-5 * singular[8 * i];  // float32 there
          EXPECT_NEAR(values[r], singular[8 * i + r], tolerance) << what;
          // Sorted rising or falling, whichever the file has.
          const int rank = eigen[8 * i] < eigen[8 * i + 7] ? 7 - r : r;
          EXPECT_NEAR(std::abs(lambda[r]), eigen[8 * i + rank], tolerance) << what;
        }
        EXPECT_NEAR(CopyingScore(matrix), copying[i], 1e-5) << what;
      }
    }
    const HeadTable copying = OvCopyingScores(*circuits);
    const auto want = Golden(weights + "full_OV.eigenvalue_copying_score").ToDoubles();
    for (int i = 0; i < 6; ++i) EXPECT_NEAR(copying[i / 3][i % 3], want[i], 1e-5);

    for (const auto& [kind, name] :
         {std::pair(CompositionKind::kQ, "Q"), std::pair(CompositionKind::kK, "K"),
          std::pair(CompositionKind::kV, "V")}) {
      const CompositionTable got = Compositions(*circuits, kind);
      const auto table = Golden(weights + "composition." + name).ToDoubles();
      for (int i = 0; i < 36; ++i) {
        EXPECT_NEAR(got[i / 18][i / 6 % 3][i / 3 % 2][i % 3], table[i], 2e-6)
            << weights << name << " " << i;
      }
    }
  }
}

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
  EXPECT_LT((folded.W_E - read.W_E).norm(), 1e-12);
  EXPECT_LT((folded.W_U - read.W_U).norm(), 1e-12);
  for (int i = 0; i < 6; ++i) {
    const HeadCircuits::Head &a = folded.heads[i / 3][i % 3], &b = read.heads[i / 3][i % 3];
    EXPECT_LT((a.W_Q - b.W_Q).norm(), 1e-12);
    EXPECT_LT((a.W_K - b.W_K).norm(), 1e-12);
    EXPECT_LT((a.W_V - b.W_V).norm(), 1e-12);
    EXPECT_LT((a.W_O - b.W_O).norm(), 1e-12);
  }
}

TEST(HeadCircuitsTest, CompositionsAreThoseOfTheDenseMatrices) {
  const HeadCircuits circuits = *ReadHeadCircuits(*GoldenModel());
  auto dense = [](const FactoredMatrix& f) -> Eigen::MatrixXd { return f.A() * f.B(); };
  for (CompositionKind kind : {CompositionKind::kQ, CompositionKind::kK, CompositionKind::kV}) {
    const CompositionTable table = Compositions(circuits, kind);
    for (int from = 0; from < 3; ++from) {
      for (int to = 0; to < 3; ++to) {
        const Eigen::MatrixXd write = dense(circuits.heads[0][from].OV());
        const HeadCircuits::Head& later = circuits.heads[1][to];
        const Eigen::MatrixXd read = kind == CompositionKind::kQ ? dense(later.QK())
                                     : kind == CompositionKind::kK
                                         ? Eigen::MatrixXd(dense(later.QK()).transpose())
                                         : dense(later.OV());
        const double norms = write.norm() * read.norm();
        EXPECT_NEAR(table[0][from][1][to], (write * read).norm() / norms, 1e-12);
        // The erratum of the paper: the product the other way round has another norm.
        EXPECT_GT(std::abs((read * write).norm() - (write * read).norm()) / norms, 1e-3);
        EXPECT_EQ(table[1][from][0][to], 0);
        EXPECT_EQ(table[0][from][0][to], 0);
      }
    }
  }
}

TEST(HeadCircuitsTest, ThePlantedHeadsComposeByKeysOnly) {
  const PlantedOptions options;
  const HeadCircuits circuits = *ReadHeadCircuits(*PlantedInductionModel(options));
  const auto k = Compositions(circuits, CompositionKind::kK);
  // Both circuits are the identity between two subspaces of d_vocab dimensions, the key's with a
  // row of ones more: sqrt(v) / (sqrt(v) sqrt(2 v)), above the 1 / sqrt(d_model) of strangers.
  EXPECT_NEAR(k[0][0][1][0], 1 / std::sqrt(2.0 * options.d_vocab), 1e-12);
  EXPECT_EQ(k[0][1][1][0], 0);
  EXPECT_EQ(k[0][0][1][1], 0);
  EXPECT_NEAR(Compositions(circuits, CompositionKind::kQ)[0][0][1][0], 0, 1e-12);
  EXPECT_NEAR(Compositions(circuits, CompositionKind::kV)[0][0][1][0], 0, 1e-12);
  // The induction head copies what it attends to; the previous-token head's output is read by no
  // logit.
  const HeadTable copying = OvCopyingScores(circuits);
  EXPECT_NEAR(copying[1][0], 1, 1e-9);
  EXPECT_NEAR(copying[0][0], 0, 1e-9);
  EXPECT_EQ(copying[0][1], 0);
}

TEST(HeadCircuitsTest, ThePlantedInductionHeadLooksForItsOwnKind) {
  const HeadCircuits circuits = *ReadHeadCircuits(*PlantedInductionModel());
  EXPECT_NEAR(CopyingScore(KCompositionEigenvalues(circuits, {0, 0}, {1, 0})), 1, 1e-9);
  EXPECT_EQ(CopyingScore(KCompositionEigenvalues(circuits, {0, 1}, {1, 0})), 0);
}

TEST(HeadCircuitsTest, EigenvaluesAreThoseOfTheDenseMatrices) {
  const HeadCircuits circuits = *ReadHeadCircuits(*GoldenModel());
  const auto& later = circuits.heads[1][2];
  const Eigen::MatrixXd W_E = circuits.W_E;
  const Eigen::MatrixXd ov = W_E * later.W_V * later.W_O * circuits.W_U;
  const Eigen::MatrixXd qk = W_E * later.W_Q * later.W_K.transpose() *
                             (circuits.heads[0][1].W_V * circuits.heads[0][1].W_O).transpose() *
                             W_E.transpose();
  auto check = [](const Eigen::MatrixXd& dense, const std::vector<std::complex<double>>& got) {
    // Sums of powers decide the eigenvalues that are not zero.
    Eigen::MatrixXd power = dense;
    for (int k = 1; k <= 8; ++k, power = power * dense) {
      std::complex<double> sum = 0;
      double size = 0;
      for (const std::complex<double>& value : got) {
        sum += std::pow(value, k);
        size += std::pow(std::abs(value), k);
      }
      EXPECT_NEAR(sum.real(), power.trace(), 1e-9 * size) << k;
      EXPECT_NEAR(sum.imag(), 0, 1e-9 * size) << k;
    }
  };
  check(ov, OvEigenvalues(circuits, {1, 2}));
  check(qk, KCompositionEigenvalues(circuits, {0, 1}, {1, 2}));
  EXPECT_DEATH(KCompositionEigenvalues(circuits, {1, 1}, {1, 2}), "1 1");
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
  EXPECT_EQ(circuits.W_U, circuits.W_E.transpose());

  config.blocks = {{"mlp"}};
  const auto mlp = BuildTransformer(config);
  Initialize(*mlp, 3);
  EXPECT_EQ(ReadHeadCircuits(*mlp).status().code(), absl::StatusCode::kNotFound);
}

// A norm after the sum is no part of a read.
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

}  // namespace
}  // namespace residual
