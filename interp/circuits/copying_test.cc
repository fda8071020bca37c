#include "interp/circuits/copying.h"

#include <cmath>
#include <functional>
#include <string>

#include "gtest/gtest.h"
#include "interp/testing/golden.h"
#include "interp/testing/planted_circuit.h"

namespace residual {
namespace {

TEST(CopyingTest, AgreesWithTransformerLens) {
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
    const CopyingScores small = CircuitCopyingScores(*circuits);
    const CopyingScores full = FullCopyingScores(*circuits);
    const Spectra spectra = SingularValues(*circuits);
    auto want = [&](const char* name) { return Golden(weights + name).ToDoubles(); };
    for (int i = 0; i < 6; ++i) {
      const int l = i / 3, h = i % 3;
      EXPECT_NEAR(small.OV[l][h], want("OV.eigenvalue_copying_score")[i], 1e-5);
      EXPECT_NEAR(small.QK[l][h], want("QK.eigenvalue_copying_score")[i], 1e-5);
      EXPECT_NEAR(full.OV[l][h], want("full_OV.eigenvalue_copying_score")[i], 1e-5);
      EXPECT_NEAR(full.QK[l][h], want("full_QK.eigenvalue_copying_score")[i], 1e-5);
      EXPECT_NEAR(spectra.OV[l][h][3], want("OV.singular_values")[8 * i + 3], 3e-5);
      EXPECT_NEAR(spectra.QK[l][h][7], want("QK.singular_values")[8 * i + 7], 3e-5);
    }
  }
}

TEST(CopyingTest, ThePlantedHeads) {
  const HeadCircuits circuits = *ReadHeadCircuits(*PlantedInductionModel());
  // The induction head copies what it attends to; the previous-token head's output is read by no
  // logit.
  const HeadTable copying = OvCopyingScores(circuits);
  EXPECT_NEAR(copying[1][0], 1, 1e-9);
  EXPECT_NEAR(copying[0][0], 0, 1e-9);
  EXPECT_EQ(copying[0][1], 0);
}

TEST(CopyingTest, ThePlantedInductionHeadLooksForItsOwnKind) {
  const HeadCircuits circuits = *ReadHeadCircuits(*PlantedInductionModel());
  EXPECT_NEAR(CopyingScore(KCompositionEigenvalues(circuits, {0, 0}, {1, 0})), 1, 1e-9);
  EXPECT_EQ(CopyingScore(KCompositionEigenvalues(circuits, {0, 1}, {1, 0})), 0);
}

TEST(CopyingTest, EigenvaluesAreThoseOfTheDenseMatrices) {
  const HeadCircuits circuits = *ReadHeadCircuits(*GoldenModel(kF64));
  const auto& later = circuits.heads[1][2];
  const RowMatrix W_E = circuits.vocabulary.W_E();
  const RowMatrix ov = W_E * later.W_V * later.W_O * circuits.vocabulary.W_U();
  const RowMatrix qk = W_E * later.W_Q * later.W_K.transpose() *
                       (circuits.heads[0][1].W_V * circuits.heads[0][1].W_O).transpose() *
                       W_E.transpose();
  auto check = [](const RowMatrix& dense, const std::vector<std::complex<double>>& got) {
    // Sums of powers decide the eigenvalues that are not zero.
    RowMatrix power = dense;
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

}  // namespace
}  // namespace residual
