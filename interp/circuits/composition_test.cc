#include "interp/circuits/composition.h"

#include <cmath>
#include <random>
#include <string>
#include <utility>

#include "Eigen/QR"
#include "gtest/gtest.h"
#include "interp/testing/golden.h"
#include "interp/testing/planted_circuit.h"
#include "models/transformer/transformer.h"

namespace residual {
namespace {

TEST(CompositionTest, AgreesWithTransformerLens) {
  for (const DType dtype : {kF32, kF64}) {
    const auto model = GoldenModel(dtype);
    for (const bool process : {false, true}) {
      const HeadCircuits circuits = *ReadHeadCircuits(*model, process);
      const std::string weights = process ? "processed." : "raw.";
      for (const auto& [kind, name] :
           {std::pair(CompositionKind::kQ, "Q"), std::pair(CompositionKind::kK, "K"),
            std::pair(CompositionKind::kV, "V")}) {
        const CompositionTable got = Compositions(circuits, kind);
        const auto table = Golden(weights + "composition." + name).ToDoubles();
        for (int i = 0; i < 36; ++i) {
          EXPECT_NEAR(got[i / 18][i / 6 % 3][i / 3 % 2][i % 3], table[i], 2e-6)
              << weights << name << " " << i;
        }
      }
    }
  }
}

TEST(CompositionTest, CompositionsAreThoseOfTheDenseMatrices) {
  const HeadCircuits circuits = *ReadHeadCircuits(*GoldenModel(kF64));
  auto dense = [](const FactoredMatrix& f) -> RowMatrix { return f.A() * f.B(); };
  for (CompositionKind kind : {CompositionKind::kQ, CompositionKind::kK, CompositionKind::kV}) {
    const CompositionTable table = Compositions(circuits, kind);
    for (int from = 0; from < 3; ++from) {
      for (int to = 0; to < 3; ++to) {
        const RowMatrix write = dense(circuits.heads[0][from].OV());
        const HeadCircuits::Head& later = circuits.heads[1][to];
        const RowMatrix read = kind == CompositionKind::kQ ? dense(later.QK())
                               : kind == CompositionKind::kK
                                   ? RowMatrix(dense(later.QK()).transpose())
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

TEST(CompositionTest, ThePlantedHeadsComposeByKeysOnly) {
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
}

// A later circuit of the same singular values and random directions: the mean and the variance of
// the squared score.
TEST(CompositionTest, ChanceIsThatOfRandomRotations) {
  const int d = 24, draws = 4000;
  HeadCircuits circuits = *ReadHeadCircuits(*GoldenModel(kF64));
  const CompositionScores scores = ComposeHeads(circuits, CompositionKind::kQ);
  const HeadCircuits::Head later = circuits.heads[1][2];
  circuits.heads = {{circuits.heads[0][1]}, {later}};
  std::mt19937_64 random(7);
  std::normal_distribution<double> normal;
  double sum = 0, sum_of_squares = 0;
  for (int i = 0; i < draws; ++i) {
    Eigen::MatrixXd gauss = Eigen::MatrixXd::NullaryExpr(d, d, [&] { return normal(random); });
    const Eigen::HouseholderQR<Eigen::MatrixXd> qr(gauss);
    Eigen::MatrixXd rotation = qr.householderQ();
    for (int j = 0; j < d; ++j) {  // signs that make it uniform
      if (qr.matrixQR()(j, j) < 0) rotation.col(j) *= -1;
    }
    circuits.heads[1][0].W_Q = rotation * later.W_Q;
    const double score = Compositions(circuits, CompositionKind::kQ)[0][0][1][0];
    sum += score * score;
    sum_of_squares += score * score * score * score;
  }
  const double mean = sum / draws, deviation = std::sqrt(sum_of_squares / draws - mean * mean);
  EXPECT_NEAR(mean, 1.0 / d, 4 * deviation / std::sqrt(draws));
  EXPECT_NEAR(CompositionByChance(d), std::sqrt(1.0 / d), 1e-15);
  const double square = std::pow(scores.score[0][1][1][2], 2);
  const double implied = (square - 1.0 / d) / scores.deviations[0][1][1][2];
  EXPECT_NEAR(implied / deviation, 1, 0.06);
}

TEST(CompositionTest, LayersWithoutAttentionAndUnevenHeads) {
  TransformerConfig config;
  config.d_model = 12;
  config.n_ctx = 8;
  config.d_vocab = 5;
  config.blocks = {{"attn"}, {"mlp"}, {"attn"}};
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.d_head = 3;
  config.d_mlp = 8;
  const auto model = BuildTransformer(config);
  Initialize(*model, 3, kF64);
  HeadCircuits circuits = *ReadHeadCircuits(*model, false);
  circuits.heads[2][3].W_Q.setZero();
  const CompositionScores q = ComposeHeads(circuits, CompositionKind::kQ);
  EXPECT_TRUE(q.score[0][0][1].empty());
  for (int from = 0; from < 4; ++from) {
    for (int to = 0; to < 4; ++to) {
      EXPECT_NEAR(q.score[0][from][2][to],
                  Composition(circuits.heads[0][from].OV(), circuits.heads[2][to].QK()), 1e-12);
    }
    EXPECT_EQ(q.deviations[0][from][2][3], 0);
  }
  EXPECT_EQ(q.score[0][1][2][3], 0);
}

}  // namespace
}  // namespace residual
