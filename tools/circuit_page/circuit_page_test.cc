#include "tools/circuit_page/circuit_page.h"

#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "interp/testing/planted_circuit.h"

namespace residual {
namespace {

TEST(CircuitPageTest, TellsWhatWasFound) {
  const auto model = PlantedInductionModel();
  const auto graph = *EdgeGraph::Of(*model);
  CircuitFindings found;
  found.model = "<planted>";
  found.method = "exact";
  found.metric = "logit_difference";
  found.graph = &graph;
  found.scores.assign(graph.edges(), 0);
  for (const char* name : {"embed->L0H0.v", "L0H0->L1H0.k", "L1H0->logits"}) {
    found.circuit.push_back(*graph.FindEdge(name));
    found.scores[found.circuit.back()] = 1.5;
  }
  found.value.faithfulness = 0.987;
  found.curve = {{1, {}, 0, 0.25}, {3, {}, 0, 0.987}};
  found.random = {0.987, {0.1, 0.125}, 1.0 / 3};
  const std::string page = CircuitPage(found).ToString();
  for (const char* part :
       {"&lt;planted&gt;", "98.7%", "12.5%", "p = 0.333", "L1H0", "1.5000", "embed-&gt;L0H0.v"}) {
    EXPECT_TRUE(absl::StrContains(page, part)) << part;
  }
  EXPECT_FALSE(absl::StrContains(page, "<planted>"));
  size_t plots = 0;
  for (size_t at = 0; (at = page.find("<figure class=\"plot", at)) != std::string::npos; ++at) {
    ++plots;
  }
  EXPECT_EQ(plots, 3u);
  found.circuit.clear();
  EXPECT_TRUE(absl::StrContains(CircuitPage(found).ToString(), "No edge is left."));
}

}  // namespace
}  // namespace residual
