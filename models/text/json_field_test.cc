#include "models/text/json_field.h"

#include "gtest/gtest.h"

namespace residual {
namespace {

TEST(JsonFieldTest, NamesWhereItStands) {
  const auto json = nlohmann::json::parse(R"({"a": {"b": [1, {"c": "x"}]}, "type": "T"})");
  const JsonField root(json, "f.json");
  EXPECT_EQ(root.type(), "T");
  EXPECT_EQ(root["a"].type(), "");
  const JsonField c = root["a"]["b"][1]["c"];
  EXPECT_EQ(c.path(), "a.b[1].c");
  EXPECT_EQ(*c.String(), "x");
  EXPECT_EQ(c.Bool().status().message(), "f.json: 'a.b[1].c' is \"x\", expected true or false");
  EXPECT_TRUE(root["none"]["at"]["all"].is_null());
  EXPECT_EQ(root["none"].String().status().message(), "f.json: 'none' is null, expected a string");
}

TEST(JsonFieldTest, Values) {
  const auto json = nlohmann::json::parse(
      R"({"yes": true, "empty": "", "n": 7, "huge": 18446744073709551615, "half": 0.5})");
  const JsonField root(json, "f.json");
  EXPECT_TRUE(*root["yes"].Bool());
  EXPECT_TRUE(*root["none"].Bool(true));
  EXPECT_FALSE(root["n"].Bool(true).ok());
  EXPECT_EQ(*root["empty"].String(), "");
  EXPECT_FALSE(root["empty"].NonEmptyString().ok());
  EXPECT_EQ(*root["n"].Int(0, 7), 7);
  EXPECT_EQ(root["n"].Int(0, 6).status().message(),
            "f.json: 'n' is 7, expected an integer in [0, 6]");
  EXPECT_FALSE(root["n"].Int(8, 9).ok());
  EXPECT_FALSE(root["huge"].Int(0, INT64_MAX).ok());
  EXPECT_FALSE(root["half"].Int(0, 1).ok());
}

}  // namespace
}  // namespace residual
