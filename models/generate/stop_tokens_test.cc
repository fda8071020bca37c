#include "models/generate/stop_tokens.h"

#include "gtest/gtest.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

using nlohmann::json;
using Ids = std::vector<int64_t>;

TEST(StopTokensTest, OfTheConfig) {
  const std::string folder = testing::TempDir() + "/config_alone";
  ASSERT_TRUE(MakeFolders(folder).ok());
  EXPECT_EQ(*StopTokens(folder, json::object()), Ids{});
  EXPECT_EQ(*StopTokens(folder, {{"eos_token_id", nullptr}}), Ids{});
  EXPECT_EQ(*StopTokens(folder, {{"eos_token_id", -1}}), Ids{});
  EXPECT_EQ(*StopTokens(folder, {{"eos_token_id", 2}}), (Ids{2}));
  EXPECT_EQ(*StopTokens(folder, {{"eos_token_id", {2, 5}}}), (Ids{2, 5}));
  for (const json& wrong : {json("</s>"), json(1.5), json({1, "2"}), json(-2), json(true)}) {
    EXPECT_EQ(StopTokens(folder, {{"eos_token_id", wrong}}).status().message(),
              folder + "/config.json: 'eos_token_id' is " + wrong.dump() +
                  ", expected an id or a list of ids");
  }
}

TEST(StopTokensTest, OfTheGenerationConfigFirst) {
  const std::string folder = testing::TempDir() + "/both";
  ASSERT_TRUE(MakeFolders(folder).ok());
  auto with = [&](const std::string& text) {
    EXPECT_TRUE(WriteFileAtomically(folder + "/generation_config.json", text).ok());
    return StopTokens(folder, {{"eos_token_id", 2}});
  };
  EXPECT_EQ(*with("{\"eos_token_id\": [7]}"), (Ids{7}));
  EXPECT_EQ(*with("{}"), (Ids{2}));
  EXPECT_EQ(with("{\"eos_token_id\": \"x\"}").status().message(),
            folder +
                "/generation_config.json: 'eos_token_id' is \"x\", expected an id or a list "
                "of ids");
  EXPECT_FALSE(with("{").ok());
}

}  // namespace
}  // namespace residual
