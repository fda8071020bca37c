#include "tools/path_flags/path_flags.h"

#include <string>

#include "gtest/gtest.h"
#include "interp/testing/planted_circuit.h"

namespace residual {
namespace {

TEST(PathFlagsTest, NamesOfAGraphAreEndsOfPaths) {
  const auto model = PlantedInductionModel();
  const auto graph = *EdgeGraph::Of(*model);
  EXPECT_EQ(SenderOf(*model, graph, "embed")->point, "hook_embed");
  const PathEnd head = *SenderOf(*model, graph, "L0H1");
  EXPECT_EQ(head.point, "blocks.0.attn.hook_z");
  EXPECT_EQ(head.head, 1);
  const PathEnd keys = *ReceiverOf(*model, graph, "L1H0.k");
  EXPECT_EQ(keys.point, "blocks.1.attn.hook_k");
  EXPECT_EQ(keys.head, 0);
  EXPECT_EQ(ReceiverOf(*model, graph, "logits")->point, "blocks.1.hook_resid_post");
  const std::string message(SenderOf(*model, graph, "L0H11").status().message());
  EXPECT_NE(message.find("nothing that writes is called 'L0H11'; did you mean"), message.npos);
  EXPECT_NE(message.find("'L0H1'"), message.npos) << message;
  EXPECT_EQ(ReceiverOf(*model, graph, "L1H0.qq").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace residual
