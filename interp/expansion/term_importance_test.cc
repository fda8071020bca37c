#include "interp/expansion/term_importance.h"

#include <cmath>

#include "gtest/gtest.h"
#include "interp/expansion/path_expansion.h"
#include "interp/testing/planted_circuit.h"
#include "interp/testing/small_models.h"
#include "models/train/data.h"
#include "models/transformer/transformer.h"
#include "ops/elementwise/elementwise.h"
#include "ops/loss/cross_entropy.h"

namespace residual {
namespace {

std::unique_ptr<ResidualModel> Make(int layers) {
  std::unique_ptr<ResidualModel> model = BuildTransformer(AttentionOnlyConfig(layers));
  Initialize(*model, 3, kF64);
  return model;
}

Tensor Tokens() {
  return Tensor::Of<int64_t>({2, 8}, {0, 3, 1, 6, 3, 1, 2, 5, 4, 4, 0, 2, 6, 6, 1, 3});
}
Tensor Targets() {
  return Tensor::Of<int64_t>(
      {2, 8}, {3, 1, 6, 3, 1, 2, 5, kIgnoreTarget, 4, 0, 2, 6, 6, 1, 3, kIgnoreTarget});
}

// Of the logits of some paths.
template <class Counts>
double LossOf(const PathExpansion& expansion, const Counts& counts) {
  Tensor logits = Tensor::Zeros({2, 8, 7}, kF64);
  for (const PathTerm& term : expansion.terms) {
    if (counts(term.heads)) logits = Add(logits, term.logits);
  }
  return CrossEntropy(logits, Targets(), {}).Item();
}

TEST(TermImportanceTest, RunsWithOutputsOfRunsBeforeAreSumsOverPathsUpToAnOrder) {
  const auto model = Make(3);
  const PathExpansion expansion = *ExpandPaths(*model, Tokens());
  const absl::StatusOr<TermImportance> terms = WeighTerms(*model, Tokens(), Targets());
  ASSERT_TRUE(terms.ok()) << terms.status();
  ASSERT_EQ(terms->up_to_order.size(), 4);
  for (size_t order = 0; order < 4; ++order) {
    EXPECT_NEAR(terms->up_to_order[order],
                LossOf(expansion, [&](auto& heads) { return heads.size() <= order; }), 1e-12);
    if (order > 0) {
      EXPECT_GT(std::abs(terms->up_to_order[order] - terms->up_to_order[order - 1]), 1e-6);
    }
  }
  ASSERT_EQ(terms->with_layer.size(), 3);
  for (int layer = 0; layer < 3; ++layer) {
    EXPECT_NEAR(terms->with_layer[layer],
                LossOf(expansion,
                       [&](auto& heads) {
                         return heads.empty() || (heads.size() == 1 && heads[0].layer == layer);
                       }),
                1e-12);
  }
  EXPECT_NEAR(terms->up_to_order[3], CrossEntropy(model->Forward({Tokens()}), Targets(), {}).Item(),
              1e-12);
  EXPECT_DOUBLE_EQ(terms->uniform_loss, std::log(7));
}

TEST(TermImportanceTest, DifferencesAddUp) {
  const auto model = Make(2);
  const TermImportance terms = *WeighTerms(*model, Tokens(), Targets());
  EXPECT_NEAR(terms.direct() + terms.single_heads() + terms.virtual_heads(),
              terms.uniform_loss - terms.up_to_order[2], 1e-12);
  EXPECT_NEAR(terms.layer_alone(0) + terms.layer_last(1), terms.single_heads(), 1e-12);
  EXPECT_NEAR(terms.layer_alone(1) + terms.layer_last(0), terms.single_heads(), 1e-12);
}

TEST(TermImportanceTest, OfOneLayerThereAreNoVirtualHeads) {
  const TermImportance terms = *WeighTerms(*Make(1), Tokens(), Targets());
  EXPECT_EQ(terms.virtual_heads(), 0);
  EXPECT_NEAR(terms.with_layer[0], terms.up_to_order[1], 1e-12);
}

TEST(TermImportanceTest, AModelThatIsNoSumIsRefused) {
  EXPECT_EQ(WeighTerms(*PlantedInductionModel(), Tokens(), Targets()).status().code(),
            absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace residual
