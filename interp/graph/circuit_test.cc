#include "interp/graph/circuit.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "interp/testing/planted_circuit.h"

namespace residual {
namespace {

// Rows a b .. a: the planted heads say b. In the corrupted rows another token precedes b, so that
// there is nothing to complete.
struct Planted {
  std::unique_ptr<ResidualModel> model = PlantedInductionModel();
  EdgeGraph graph = *EdgeGraph::Of(*model);
  ModelInput clean{Tensor::Of<int64_t>({3, 6}, {7, 3, 12, 5, 6, 3,  //
                                                9, 4, 11, 1, 2, 4,  //
                                                5, 8, 17, 0, 3, 8})};
  ModelInput corrupted{Tensor::Of<int64_t>({3, 6}, {7, 15, 12, 5, 6, 3,  //
                                                    9, 16, 11, 1, 2, 4,  //
                                                    5, 14, 17, 0, 3, 8})};
  EdgePair pair = *MakeEdgePair(*model, graph, clean, corrupted);
  Metric loss = AnswerLoss({12, 11, 17});
  std::vector<int> Edges(const std::vector<std::string>& names) const {
    std::vector<int> edges;
    for (const std::string& name : names) edges.push_back(*graph.FindEdge(name));
    std::sort(edges.begin(), edges.end());
    return edges;
  }
  // What differs goes from the embedding into the previous-token head's value, from there into the
  // induction head's key, and from there to the logits.
  std::vector<int> Truth() const {
    return Edges({"embed->L0H0.v", "L0H0->L1H0.k", "L1H0->logits"});
  }
};

TEST(CircuitTest, ThePlantedOneIsAllThereIs) {
  const Planted planted;
  const auto circuit = EvaluateCircuit(planted.pair, planted.loss, planted.Truth());
  ASSERT_TRUE(circuit.ok()) << circuit.status();
  EXPECT_NEAR(circuit->faithfulness, 1, 1e-6);
  EXPECT_EQ(circuit->edges, 3);
  for (size_t i = 0; i < 3; ++i) {
    std::vector<int> broken = planted.Truth();
    broken.erase(broken.begin() + i);
    EXPECT_NEAR(EvaluateCircuit(planted.pair, planted.loss, broken)->faithfulness, 0, 1e-6);
  }
  EXPECT_NEAR(EvaluateCircuit(planted.pair, planted.loss, {})->faithfulness, 0, 1e-9);
  EXPECT_EQ(EvaluateCircuit(planted.pair, planted.loss, {planted.graph.edges()}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(CircuitTest, AcdcFindsThePlantedOne) {
  const Planted planted;
  int last = 0;
  AcdcOptions options;
  options.progress = [&](int done, int all) {
    EXPECT_EQ(done, last + 1);
    EXPECT_EQ(all, planted.graph.edges());
    last = done;
  };
  const auto found = Acdc(planted.pair, planted.loss, options);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->circuit, planted.Truth());
  EXPECT_EQ(last, planted.graph.edges());
  for (const int edge : found->circuit) EXPECT_GT(found->rise[edge], 1);
  // Of the heads nothing reads, no edge was tried.
  EXPECT_LT(found->runs, planted.graph.edges());
  const double clean = EvaluateCircuit(planted.pair, planted.loss, planted.Truth())->mean;
  EXPECT_NEAR(found->metric, clean, 1e-9);
}

TEST(CircuitTest, ExactScoresAndTheirCurve) {
  const Planted planted;
  std::vector<int> all(planted.graph.edges());
  for (int edge = 0; edge < planted.graph.edges(); ++edge) all[edge] = edge;
  const std::vector<double> scores = MeanScores(*ExactEdgeScores(planted.pair, planted.loss, all));
  std::vector<int> top = TopEdges(scores, 3);
  std::sort(top.begin(), top.end());
  EXPECT_EQ(top, planted.Truth());
  const auto curve = *FaithfulnessCurve(planted.pair, planted.loss, scores, {0, 3, 10});
  EXPECT_NEAR(curve[0].faithfulness, 0, 1e-9);
  EXPECT_NEAR(curve[1].faithfulness, 1, 1e-6);
  EXPECT_EQ(curve[2].edges, 10);
  EXPECT_NEAR(curve[2].faithfulness, 1, 1e-6);
  EXPECT_EQ(TopEdges({1, -3, 3, 0}, 2), (std::vector<int>{1, 2}));
  EXPECT_EQ(TopEdges({1, -3}, 5).size(), 2);
}

TEST(CircuitTest, RandomOnesDoNothing) {
  const Planted planted;
  const auto compared = CompareWithRandom(planted.pair, planted.loss, planted.Truth(), 39, 1);
  ASSERT_TRUE(compared.ok()) << compared.status();
  EXPECT_EQ(compared->random.size(), 39);
  EXPECT_NEAR(compared->p_value, 1.0 / 40, 1e-12);
  for (const double random : compared->random) EXPECT_LT(random, 0.5);
  // An empty circuit is as good as any other.
  EXPECT_EQ(CompareWithRandom(planted.pair, planted.loss, {}, 5, 1)->p_value, 1);
}

TEST(ScrubTest, BetweenAllAndNothing) {
  const Planted planted;
  std::vector<int> all(planted.graph.edges());
  for (int edge = 0; edge < planted.graph.edges(); ++edge) all[edge] = edge;
  ScrubOptions options;
  options.samples = 8;
  options.seed = 3;
  const auto whole = Scrub(planted.pair.clean, planted.loss, all, options);
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_EQ(whole->samples.size(), 8);
  EXPECT_NEAR(whole->mean, whole->clean, 1e-9);
  EXPECT_NEAR(whole->recovered, 1, 1e-9);
  EXPECT_NEAR(Scrub(planted.pair.clean, planted.loss, {}, options)->recovered, 0, 1e-9);
  // Each row a label of its own: it can only be replaced by itself.
  options.labels = {0, 1, 2};
  EXPECT_NEAR(Scrub(planted.pair.clean, planted.loss, all, options)->recovered, 1, 1e-9);
  // One label for all says that nothing of the input matters.
  options.labels = {0, 0, 0};
  EXPECT_LT(Scrub(planted.pair.clean, planted.loss, all, options)->recovered, 0.9);
  options.labels = {0, 1};
  EXPECT_EQ(Scrub(planted.pair.clean, planted.loss, all, options).status().message(),
            "2 labels for 3 rows");
}

TEST(CurveSizesTest, GrowsToAllEdges) {
  EXPECT_EQ(CurveSizes(1), std::vector<int>({1}));
  EXPECT_EQ(CurveSizes(2), std::vector<int>({1, 2}));
  EXPECT_EQ(CurveSizes(12), std::vector<int>({1, 2, 5, 10, 12}));
  EXPECT_EQ(CurveSizes(100), std::vector<int>({1, 2, 5, 10, 20, 50, 100}));
}

}  // namespace
}  // namespace residual
