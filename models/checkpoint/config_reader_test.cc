#include "models/checkpoint/config_reader.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace residual {
namespace {

using nlohmann::json;

std::string ParseError(const std::string& text) {
  return std::string(ParseJsonObject(text, "c.json").status().message());
}

TEST(ParseJsonObjectTest, TakesObjectsOnly) {
  EXPECT_EQ((*ParseJsonObject("\xef\xbb\xbf{\"a\": [1, 2]}", "c.json"))["a"][1], 2);
  EXPECT_EQ(ParseError("null"), "c.json: holds null, expected a JSON object");
  EXPECT_EQ(ParseError("[1]"), "c.json: holds [1], expected a JSON object");
  for (const char* text : {"", "{", "{\"a\": 1,}", "{\"a\": NaN}", "{\"a\": -Infinity}",
                           "{\"a\": Infinit}", "{} {}", "{\"a\xff\": 1}"}) {
    EXPECT_NE(ParseError(text).find("c.json: not valid JSON: parse error at line 1, column"),
              std::string::npos)
        << text << ": " << ParseError(text);
  }
}

// As Python writes it, and as transformers 5 does.
TEST(ParseJsonObjectTest, ReadsInfinities) {
  const json spelled = *ParseJsonObject(R"({"a": [0.0, {"__float__": "Infinity"}]})", "c.json");
  EXPECT_EQ(*ParseJsonObject(R"({"a": [0.0, Infinity]})", "c.json"), spelled);
  const json text = {{"Infinity \\", "\"Infinity"}};
  EXPECT_EQ(*ParseJsonObject(text.dump(), "c.json"), text);
}

TEST(ParseJsonObjectTest, ErrorsAreText) {
  for (const char c : ParseError("{\"a\xff\xc3\": 1}")) {
    EXPECT_LT(static_cast<unsigned char>(c), 0x80) << ParseError("{\"a\xff\xc3\": 1}");
  }
  EXPECT_NE(ParseError("{\"a\xff\": 1}").find("\\xFF"), std::string::npos);
}

TEST(ParseJsonObjectTest, RefusesRepeatedKeysAndDeepNesting) {
  EXPECT_EQ(ParseError("{\"a\": 1, \"b\": {\"c\": 1, \"c\": 2}}"),
            "c.json: the key \"c\" is there twice");
  EXPECT_TRUE(ParseJsonObject("{\"a\": {\"a\": 1}, \"b\": [{\"a\": 1}, {\"a\": 2}]}", "c").ok());
  // Deep enough to overflow a recursive parser's stack.
  const std::string deep =
      absl::StrCat("{\"a\": ", std::string(1000000, '['), std::string(1000000, ']'), "}");
  EXPECT_EQ(ParseError(deep), "c.json: nested deeper than 100 levels");
  EXPECT_EQ(ParseError(absl::StrCat("{\"a\": ", std::string(100000, '['))),
            "c.json: nested deeper than 100 levels");
}

// The error of one read.
template <class Read>
std::string FieldError(const json& config, Read read) {
  ConfigReader reader(config, "c.json");
  read(reader);
  return std::string(reader.status().message());
}

TEST(ConfigReaderTest, ReadsWhatIsThere) {
  const json config = {{"n", 7},      {"x", 0.5},      {"y", 2},       {"b", true},
                       {"t", "text"}, {"no", nullptr}, {"old_name", 3}};
  ConfigReader r(config, "c.json");
  EXPECT_EQ(r.Int("n", 0, 10), 7);
  EXPECT_EQ(r.IntOr("missing", -5, 0, 10), -5);
  EXPECT_EQ(r.IntOr("no", 4, 0, 10), 4);
  EXPECT_EQ(r.Int({"new_name", "old_name"}, 0, 10), 3);
  EXPECT_EQ(r.NumberOr("x", 1, 0, 1), 0.5);
  EXPECT_EQ(r.NumberOr("y", 1, 0, 3), 2);
  EXPECT_TRUE(r.BoolOr("b", false));
  EXPECT_EQ(r.TextOr("t", ""), "text");
  r.Refuse("missing", 1);
  r.Refuse("b", true);
  r.FailOnUnreadKeys({});
  EXPECT_TRUE(r.ok()) << r.status();
}

TEST(ConfigReaderTest, ErrorsNameFieldFoundAndExpected) {
  const auto read_int = [](ConfigReader& r) { r.Int("n", 1, 10); };
  for (const json& wrong : {json(0), json(11), json(-1), json(2.0), json(2.5), json("2"),
                            json(true), json::array({2}), json(uint64_t{1} << 63), json(1e30)}) {
    EXPECT_EQ(FieldError({{"n", wrong}}, read_int),
              absl::StrCat("c.json: 'n' is ", wrong.dump(), ", expected an integer in [1, 10]"));
  }
  EXPECT_EQ(FieldError(json::object(), read_int),
            "c.json: 'n' is missing, expected an integer in [1, 10]");
  EXPECT_EQ(FieldError({{"n", nullptr}}, read_int),
            "c.json: 'n' is missing, expected an integer in [1, 10]");
  EXPECT_EQ(FieldError({{"m", 11}},
                       [](ConfigReader& r) {
                         r.Int({"n", "m"}, 1, 10);
                       }),
            "c.json: 'm' is 11, expected an integer in [1, 10]");
  EXPECT_EQ(FieldError({{"n", 3}, {"m", 4}},
                       [](ConfigReader& r) {
                         r.Int({"n", "m"}, 1, 10);
                       }),
            "c.json: 'n' is 3 but 'm' is 4; they are two names of one thing");
  EXPECT_EQ(FieldError({{"x", "1e-5"}}, [](ConfigReader& r) { r.NumberOr("x", 0, 0, 1); }),
            "c.json: 'x' is \"1e-5\", expected a number in [0.0, 1.0]");
  EXPECT_EQ(FieldError({{"b", 1}}, [](ConfigReader& r) { r.BoolOr("b", false); }),
            "c.json: 'b' is 1, expected true or false");
  EXPECT_EQ(FieldError({{"t", 1}}, [](ConfigReader& r) { r.TextOr("t", ""); }),
            "c.json: 't' is 1, expected a text");
  EXPECT_EQ(FieldError({{"o", true}}, [](ConfigReader& r) { r.Refuse("o", false); }),
            "c.json: 'o' is true, supported is only false");
}

TEST(ConfigReaderTest, ChoicesAreNamedWithTheNearest) {
  const auto parse = [](absl::string_view text) -> std::optional<int> {
    if (text == "relu") return 1;
    if (text == "swish") return 2;
    return std::nullopt;
  };
  const auto read = [&](ConfigReader& r) { r.ChoiceOr<int>("act", 0, parse, {"relu", "swish"}); };
  EXPECT_EQ(
      FieldError({{"act", "swishh"}}, read),
      "c.json: 'act' is \"swishh\", expected one of \"relu\", \"swish\"; did you mean 'swish'?");
  EXPECT_EQ(FieldError({{"act", 3}}, read),
            "c.json: 'act' is 3, expected one of \"relu\", \"swish\"");
  const json config = {{"act", "swish"}};
  ConfigReader reader(config, "c.json");
  EXPECT_EQ((reader.ChoiceOr<int>("act", 0, parse, {})), 2);
}

TEST(ConfigReaderTest, KeepsTheFirstError) {
  const json config = {{"n", "x"}, {"m", "y"}};
  ConfigReader reader(config, "c.json");
  EXPECT_EQ(reader.IntOr("n", 5, 0, 10), 5);
  reader.Int("m", 0, 10);
  EXPECT_EQ(reader.status().message(), "c.json: 'n' is \"x\", expected an integer in [0, 10]");
}

TEST(ConfigReaderTest, KeysNobodyAskedForAreFound) {
  const json config = {{"d_model", 64}, {"n_haeds", 4}, {"note", ""}};
  ConfigReader reader(config, "c.json");
  reader.Int("d_model", 1, 100);
  reader.IntOr("n_heads", 1, 1, 100);
  EXPECT_EQ(reader.UnreadKeys({"note"}), std::vector<std::string>{"n_haeds"});
  reader.FailOnUnreadKeys({"note"});
  EXPECT_EQ(reader.status().message(),
            "c.json: no field \"n_haeds\" exists; did you mean 'n_heads'?");
}

TEST(ShortJsonTest, StaysShort) {
  EXPECT_EQ(ShortJson(json("a\n\xff")), "\"a\\n\\ufffd\"");
  EXPECT_LE(ShortJson(json(std::string(100000, 'x'))).size(), 63u);
  EXPECT_EQ(ShortJson(json(std::vector<int>(1000))), "a list of 1000");
  EXPECT_LE(ShortJson({{"a", std::string(1000, 'x')}}).size(), 60u);
}

}  // namespace
}  // namespace residual
