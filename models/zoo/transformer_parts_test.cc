#include "models/zoo/transformer_parts.h"

#include <set>
#include <string>

#include "gtest/gtest.h"
#include "models/zoo/architectures.h"

namespace residual {
namespace {

TransformerConfig Small() {
  TransformerConfig c;
  c.d_model = 8;
  c.n_ctx = 4;
  c.d_vocab = 5;
  c.blocks = {{"attn"}};
  c.n_heads = 2;
  c.d_head = 4;
  return c;
}

TEST(TransformerPartsTest, ReadsAnActivationOrSaysWhichThereAre) {
  const nlohmann::json config = {{"act", "relu"}, {"other", "mish"}};
  ConfigReader reader(config, "config.json");
  EXPECT_EQ(ReadActivation(reader, "act", Activation::kSilu), Activation::kRelu);
  EXPECT_EQ(ReadActivation(reader, "missing", Activation::kSilu), Activation::kSilu);
  EXPECT_TRUE(reader.ok());
  ReadActivation(reader, "other", Activation::kSilu);
  const std::string message(reader.status().message());
  EXPECT_NE(message.find("config.json: 'other'"), std::string::npos) << message;
  EXPECT_NE(message.find("gelu_new"), std::string::npos) << message;
}

TEST(TransformerPartsTest, BuildsOrNamesTheFileOfSizesThatAreWrong) {
  const nlohmann::json config = nlohmann::json::object();
  ConfigReader reader(config, "config.json");
  const auto model = TransformerOf(Small(), reader);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->n_layers(), 1);

  TransformerConfig wrong = Small();
  wrong.n_heads = 0;
  const auto refused = TransformerOf(wrong, reader);
  const std::string message(refused.status().message());
  EXPECT_NE(message.find("config.json: 'n_heads' is 0"), std::string::npos) << message;
}

TEST(ArchitecturesTest, HaveNamesOfTheirOwn) {
  std::set<std::string> names;
  for (const Architecture& architecture : Architectures()) {
    EXPECT_TRUE(names.insert(std::string(architecture.model_type)).second)
        << architecture.model_type;
  }
  EXPECT_GE(names.size(), 3u);
}

}  // namespace
}  // namespace residual
