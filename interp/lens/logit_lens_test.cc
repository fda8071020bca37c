#include "interp/lens/logit_lens.h"

#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "interp/testing/golden.h"
#include "interp/weights/process_weights.h"

namespace residual {
namespace {

TEST(LogitLensTest, NormedStreamsAreTransformerLenss) {
  for (const bool process : {false, true}) {
    const auto model = GoldenModel();
    if (process) {
      ASSERT_TRUE(ProcessWeights(*model).ok());
    }
    const Decomposition found = *DecomposeStream(*model, {Golden("clean")});
    const Tensor got = NormedStreams(*model, found.accumulated);
    const Tensor want =
        Golden(std::string(process ? "processed" : "raw") + ".accumulated_resid_ln");
    ASSERT_EQ(got.shape(), want.shape());
    for (int64_t i = 0; i < want.elements(); ++i) {
      EXPECT_NEAR(got.data<float>()[i], want.data<float>()[i], 2e-5) << i;
    }
  }
}

TEST(LogitLensTest, TheLastStreamReadsWhatTheModelSays) {
  const auto model = GoldenModel(kF64);
  const Decomposition found = *DecomposeStream(*model, {Golden("clean")});
  const LensReading reading = ReadLens(*model, found.accumulated, found.logits, 4);
  EXPECT_EQ(reading.labels, found.accumulated.labels);
  ASSERT_EQ(reading.top_ids.shape(), Shape({3, 2, 10, 4}));
  const double* logits = found.logits.data<double>();
  for (int row = 0; row < 20; ++row) {
    EXPECT_NEAR(reading.kl.data<float>()[40 + row], 0, 1e-6);
    EXPECT_GT(reading.kl.data<float>()[row], 1e-3);
    // By hand: the most likely token, its probability and the entropy.
    int best = 0;
    double sum = 0, entropy = 0;
    for (int k = 0; k < 89; ++k) {
      if (logits[row * 89 + k] > logits[row * 89 + best]) best = k;
      sum += std::exp(logits[row * 89 + k]);
    }
    for (int k = 0; k < 89; ++k) {
      const double p = std::exp(logits[row * 89 + k]) / sum;
      entropy -= p * std::log(p);
    }
    EXPECT_EQ(reading.top_ids.data<int64_t>()[(40 + row) * 4], best);
    const float* probs = reading.top_probs.data<float>() + (40 + row) * 4;
    EXPECT_NEAR(probs[0], std::exp(logits[row * 89 + best]) / sum, 1e-6);
    EXPECT_TRUE(probs[0] >= probs[1] && probs[1] >= probs[2] && probs[2] >= probs[3]);
    EXPECT_NEAR(reading.entropy.data<float>()[40 + row], entropy, 1e-5);
  }
}

TEST(LogitLensTest, ATranslatorMovesTheStream) {
  const auto model = GoldenModel(kF64);
  const Decomposition found = *DecomposeStream(*model, {Golden("clean")});
  const Tensor last = found.accumulated.values.back();
  const LensReading reading =
      ReadLens(*model, found.accumulated, found.logits, 1000,
               [&](int64_t i, const Tensor& x) { return i == 0 ? last : x; });
  EXPECT_EQ(reading.top_ids.dim(3), 89);  // no more than there are
  EXPECT_NEAR(reading.kl.data<float>()[0], 0, 1e-6);
  EXPECT_GT(reading.kl.data<float>()[20], 1e-3);
}

TEST(LogitLensTest, DifferencesEndAtTheModels) {
  const auto model = GoldenModel(kF64);
  const Decomposition found = *DecomposeStream(*model, {Golden("clean")});
  for (const bool against_mean : {false, true}) {
    LogitTargets targets;
    targets.answer = {3, 88};
    if (!against_mean) targets.wrong = {0, 5};
    const LogitDirections directions = *DirectionsOf(*model, found, targets);
    const Tensor got = LensDifferences(*model, found.accumulated, targets, directions.position);
    ASSERT_EQ(got.shape(), Shape({3, 2}));
    for (int row : {0, 1}) {
      EXPECT_NEAR(got.data<float>()[4 + row], directions.difference[row], 1e-6);
      EXPECT_GT(std::abs(got.data<float>()[row] - directions.difference[row]), 1e-3);
    }
  }
}

}  // namespace
}  // namespace residual
