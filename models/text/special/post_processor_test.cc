#include "models/text/special/post_processor.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace residual {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<int32_t>;

absl::StatusOr<SpecialTokens> Read(const std::string& json) {
  const Json value = Json::parse(json);
  return ReadPostProcessor(JsonField(value, "t.json"), 10);
}

void ExpectAround(const std::string& json, const Ids& before, const Ids& after) {
  const auto tokens = Read(json);
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_EQ(tokens->before, before) << json;
  EXPECT_EQ(tokens->after, after) << json;
}

// A template with these pieces, where "<s>" is 1 and "</s>" is 2 3.
std::string Template(const std::string& single) {
  return absl::StrCat(R"({"type": "TemplateProcessing", "single": [)", single,
                      R"(], "special_tokens": {"<s>": {"id": "<s>", "ids": [1]},
                         "</s>": {"id": "</s>", "ids": [2, 3]}}})");
}
const char kText[] = R"({"Sequence": {"id": "A", "type_id": 0}})";
const char kBegin[] = R"({"SpecialToken": {"id": "<s>", "type_id": 0}})";
const char kEnd[] = R"({"SpecialToken": {"id": "</s>", "type_id": 0}})";

TEST(ReadPostProcessorTest, EveryType) {
  ExpectAround("null", {}, {});
  ExpectAround(R"({"type": "ByteLevel", "trim_offsets": true})", {}, {});
  ExpectAround(Template(absl::StrCat(kBegin, ",", kText)), {1}, {});
  ExpectAround(Template(absl::StrCat(kBegin, ",", kBegin, ",", kText, ",", kEnd)), {1, 1}, {2, 3});
  ExpectAround(Template(kText), {}, {});
  for (const char* type : {"BertProcessing", "RobertaProcessing"}) {
    ExpectAround(
        absl::StrCat(R"({"type": ")", type, R"(", "sep": ["[SEP]", 5], "cls": ["[CLS]", 4]})"), {4},
        {5});
  }
  const std::string inner = Template(absl::StrCat(kBegin, ",", kText));
  const std::string outer = Template(absl::StrCat(kEnd, ",", kText, ",", kEnd));
  ExpectAround(absl::StrCat(R"({"type": "Sequence", "processors": [{"type": "ByteLevel"},)", inner,
                            ",", outer, "]}"),
               {2, 3, 1}, {2, 3});
}

TEST(ReadPostProcessorTest, NamesWhatItCannotRead) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"type": "Magic"})", "'type' is \"Magic\""},
      {R"({"type": 3})", "'type' is 3"},
      {R"({"type": "TemplateProcessing"})", "'single'"},
      {Template(""), "'single'"},
      {Template(absl::StrCat(kText, ",", kText)), "'single[1]'"},
      {Template(R"({"Sequence": {"id": "B"}})"), "'single[0]'"},
      {Template(absl::StrCat(R"({"SpecialToken": {"id": "?"}},)", kText)),
       "'special_tokens.?.ids'"},
      {R"({"type": "BertProcessing", "sep": ["[SEP]", 10], "cls": ["[CLS]", 4]})",
       "'sep[1]' is 10"},
      {R"({"type": "BertProcessing", "sep": ["[SEP]", 5], "cls": ["[CLS]", -1]})",
       "'cls[1]' is -1"},
      {R"({"type": "BertProcessing", "sep": ["[SEP]", 5]})", "'cls'"},
      {R"({"type": "Sequence", "processors": {}})", "'processors'"},
      {R"({"type": "Sequence", "processors": [{"type": "Sequence", "processors": []}]})",
       "'processors[0].type'"},
  };
  for (const auto& [json, field] : cases) {
    const auto tokens = Read(json);
    ASSERT_FALSE(tokens.ok()) << json;
    const std::string message(tokens.status().message());
    EXPECT_NE(message.find("t.json"), std::string::npos) << message;
    EXPECT_NE(message.find(field), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace residual
