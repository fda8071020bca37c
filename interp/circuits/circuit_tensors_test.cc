#include "interp/circuits/circuit_tensors.h"

#include <cmath>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "interp/testing/golden.h"
#include "models/transformer/transformer.h"

namespace residual {
namespace {

TEST(CircuitTensorsTest, AreThoseOfTransformerLens) {
  const auto model = GoldenModel();
  for (const bool process : {false, true}) {
    const HeadCircuits circuits = *ReadHeadCircuits(*model, process);
    const CircuitTensors found =
        ComputeCircuitTensors(circuits, [](const std::string&) { return true; });
    const std::string weights = process ? "processed." : "raw.";
    int compared = 0;
    for (const auto& [name, tensor] : found.tensors) {
      if (absl::EndsWith(name, "deviations")) continue;
      std::string theirs = name;
      const size_t copying = theirs.find("copying_score");
      if (copying != std::string::npos) theirs.insert(copying, "eigenvalue_");
      const Tensor want = Golden(weights + theirs);
      ASSERT_EQ(tensor.shape(), want.shape()) << name;
      for (int64_t i = 0; i < want.elements(); ++i) {
        EXPECT_NEAR(tensor.data<float>()[i], want.data<float>()[i], 3e-5) << name << " " << i;
      }
      ++compared;
    }
    EXPECT_EQ(compared, 9);
    EXPECT_EQ(found.tensors.size(), CircuitTensorNames().size());
  }
}

TEST(CircuitTensorsTest, WhatIsNotWantedIsNotThere) {
  const HeadCircuits circuits = *ReadHeadCircuits(*GoldenModel());
  const CircuitTensors found = ComputeCircuitTensors(
      circuits, [](const std::string& name) { return name == "composition.K"; }, 3);
  ASSERT_EQ(found.tensors.size(), 1);
  ASSERT_EQ(found.seconds.size(), 1);
  EXPECT_EQ(found.seconds[0].first, "composition.K");
  ASSERT_EQ(found.top_pairs.size(), 1);
  EXPECT_EQ(found.top_pairs[0].first, "K");
  const std::vector<ComposedPair>& pairs = found.top_pairs[0].second;
  ASSERT_EQ(pairs.size(), 3);
  EXPECT_GE(pairs[0].deviations, pairs[1].deviations);
  const ComposedPair& best = pairs[0];
  EXPECT_NEAR(found.tensors.at("composition.K")
                  .data<float>()[(best.from.head * 2 + best.to.layer) * 3 + best.to.head],
              best.score, 1e-6);
  EXPECT_EQ(best.from.layer, 0);
}

TEST(CircuitTensorsTest, HeadsThatAreNotThereAreNaN) {
  TransformerConfig config;
  config.d_model = 12;
  config.n_ctx = 8;
  config.d_vocab = 5;
  config.blocks = {{"attn"}, {"mlp"}};
  config.n_heads = 2;
  config.d_head = 3;
  config.d_mlp = 8;
  const auto model = BuildTransformer(config);
  Initialize(*model, 3);
  const CircuitTensors found =
      ComputeCircuitTensors(*ReadHeadCircuits(*model), [](const std::string&) { return true; });
  const Tensor& values = found.tensors.at("OV.singular_values");
  EXPECT_EQ(values.shape(), Shape({2, 2, 3}));
  EXPECT_FALSE(std::isnan(values.data<float>()[5]));
  EXPECT_TRUE(std::isnan(values.data<float>()[6]));
  EXPECT_TRUE(std::isnan(found.tensors.at("composition.V").data<float>()[2]));
}

}  // namespace
}  // namespace residual
