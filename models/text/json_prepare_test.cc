#include "models/text/json_prepare.h"

#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "gtest/gtest.h"

namespace residual {
namespace {

using Json = nlohmann::json;

std::string Normalized(const char* json, const std::string& text) {
  const Json value = Json::parse(json);
  const auto normalizer = ReadNormalizer(JsonField(value, "t.json"));
  EXPECT_TRUE(normalizer.ok()) << normalizer.status();
  return (*normalizer)->Normalize(text);
}

std::string Pieces(const char* json, const std::string& text) {
  const Json value = Json::parse(json);
  const auto parts = ReadPreTokenizer(JsonField(value, "t.json"));
  EXPECT_TRUE(parts.ok()) << parts.status();
  std::vector<std::string> pieces;
  parts->pre_tokenizer->Split(text, true,
                              [&](absl::string_view piece, bool) { pieces.emplace_back(piece); });
  return absl::StrJoin(pieces, "|");
}

std::string Decoded(const char* json, std::vector<std::string> tokens) {
  const Json value = Json::parse(json);
  const auto decoder = ReadDecoder(JsonField(value, "t.json"));
  EXPECT_TRUE(decoder.ok()) << decoder.status();
  (*decoder)->Apply(&tokens);
  return absl::StrJoin(tokens, "|");
}

TEST(ReadNormalizerTest, EveryType) {
  EXPECT_EQ(Normalized(R"({"type": "NFKC"})", "\uFB01"), "fi");
  EXPECT_EQ(Normalized(R"({"type": "Lowercase"})", "AB"), "ab");
  EXPECT_EQ(Normalized(R"({"type": "StripAccents"})", "e\u0301"), "e");
  EXPECT_EQ(Normalized(R"({"type": "Nmt"})", "a\tb"), "a b");
  EXPECT_EQ(Normalized(R"({"type": "BertNormalizer", "lowercase": false, "strip_accents": null})",
                       "\u00C9\x07"),
            "\u00C9");
  EXPECT_EQ(Normalized(R"({"type": "Strip", "strip_left": true, "strip_right": false})", " a "),
            "a ");
  EXPECT_EQ(Normalized(R"({"type": "Sequence", "normalizers": [
                            {"type": "Prepend", "prepend": "_"},
                            {"type": "Replace", "pattern": {"String": " "}, "content": "_"},
                            {"type": "Replace", "pattern": {"Regex": "b+"}, "content": "x"}]})",
                       "a bb"),
            "_a_x");
}

TEST(ReadPreTokenizerTest, EveryType) {
  EXPECT_EQ(Pieces("null", "a b"), "a b");
  EXPECT_EQ(Pieces(R"({"type": "ByteLevel"})", "a b"), " a| b");
  EXPECT_EQ(
      Pieces(R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false})", "a b"),
      "a b");
  EXPECT_EQ(
      Pieces(R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "first"})", "a b"),
      "_a|_b");
  EXPECT_EQ(
      Pieces(R"({"type": "Metaspace", "replacement": "_", "add_prefix_space": false})", "a b"),
      "a|_b");
  EXPECT_EQ(Pieces(R"({"type": "BertPreTokenizer"})", "it's 5$\u3000x"), "it|'|s|5|$|x");
  EXPECT_EQ(Pieces(R"({"type": "Whitespace"})", "it's\u200D 5$$ x"), "it|'|s\u200D|5|$$|x");
  EXPECT_EQ(Pieces(R"({"type": "WhitespaceSplit"})", " it's  x"), "it's|x");
  EXPECT_EQ(Pieces(R"({"type": "Punctuation"})", "a..b"), "a|.|.|b");
  EXPECT_EQ(Pieces(R"({"type": "Punctuation", "behavior": "Contiguous"})", "a..b"), "a|..|b");
  EXPECT_EQ(Pieces(R"({"type": "Digits", "individual_digits": true})", "a12"), "a|1|2");
  EXPECT_EQ(Pieces(R"({"type": "Digits"})", "a12"), "a|12");
  EXPECT_EQ(Pieces(R"({"type": "CharDelimiterSplit", "delimiter": "-"})", "a-b"), "a|b");
  EXPECT_EQ(Pieces(R"({"type": "Split", "pattern": {"String": "b"}, "behavior": "MergedWithNext"})",
                   "abc"),
            "a|bc");
}

// The pattern of Llama 3 and its kin.
TEST(ReadPreTokenizerTest, SplitByRegexThenBytes) {
  const char* json = R"({"type": "Sequence", "pretokenizers": [
      {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex":
       "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
      {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})";
  EXPECT_EQ(Pieces(json, "IT'S 12345 -x\n\n  end  "), "IT|'S| |123|45| -|x|\n\n| | end|  ");
}

// GPT-2's pattern is known when it is spelled out, also inverted.
TEST(ReadPreTokenizerTest, Gpt2PatternSpelledOut) {
  const std::string pattern =
      R"("'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+")";
  for (const char* rest : {R"("Isolated", "invert": false})", R"("Removed", "invert": true})"}) {
    const std::string json =
        R"({"type": "Split", "pattern": {"Regex": )" + pattern + R"(}, "behavior": )" + rest;
    EXPECT_EQ(Pieces(json.c_str(), "I'll  go"), "I|'ll| | go");
  }
}

TEST(ReadDecoderTest, EveryType) {
  EXPECT_EQ(Decoded("null", {"a", "b"}), "a b");
  EXPECT_EQ(Decoded(R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "never"})",
                    {"_a", "_b"}),
            " a| b");
  EXPECT_EQ(Decoded(R"({"type": "WordPiece", "prefix": "##", "cleanup": true})", {"a", "##b", "."}),
            "a|b|.");
  EXPECT_EQ(Decoded(R"({"type": "Sequence", "decoders": [
                         {"type": "Replace", "pattern": {"String": "_"}, "content": " "},
                         {"type": "ByteFallback"}, {"type": "Fuse"},
                         {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})",
                    {"_a", "<0x62>"}),
            "ab");
  const Json byte_level = {{"type", "ByteLevel"}};
  EXPECT_EQ(*ReadDecoder(JsonField(byte_level, "t.json")), nullptr);
}

TEST(ReadTest, RefusesByFileAndField) {
  const auto refused = [](const char* json, const auto& read) {
    const Json value = {{"part", Json::parse(json)}};
    const auto result = read(JsonField(value, "t.json")["part"]);
    EXPECT_FALSE(result.ok()) << json;
    return std::string(result.status().message());
  };
  EXPECT_EQ(refused(R"({"type": "Strip", "strip_left": 1})", ReadNormalizer),
            "t.json: 'part.strip_left' is 1, expected true or false");
  EXPECT_EQ(
      refused(R"({"type": "Replace", "pattern": {"Regex": "("}, "content": ""})", ReadNormalizer),
      "t.json: 'part.pattern.Regex' is \"(\", expected a regular expression (missing closing "
      "parenthesis at byte 1)");
  EXPECT_EQ(refused(R"({"type": "Precompiled", "precompiled_charsmap": "!"})", ReadNormalizer),
            "t.json: 'part.precompiled_charsmap' is \"!\", expected base64");
  EXPECT_NE(refused(R"({"type": "Precompiled", "precompiled_charsmap": "AAAA"})", ReadNormalizer)
                .find("expected a trie and its values"),
            std::string::npos);
  EXPECT_NE(refused(R"({"type": "Upper"})", ReadNormalizer).find("t.json: 'part' is"),
            std::string::npos);
  EXPECT_NE(refused(R"({"type": "Split", "pattern": {"String": "a"}, "behavior": "Gone"})",
                    ReadPreTokenizer)
                .find("t.json: 'part.behavior' is \"Gone\", expected Removed"),
            std::string::npos);
  EXPECT_EQ(refused(R"({"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"},
                        {"type": "Digits"}]})",
                    ReadPreTokenizer),
            "t.json: 'part.pretokenizers[1]' is {\"type\":\"Digits\"}, expected nothing after "
            "ByteLevel");
  EXPECT_EQ(refused(R"({"type": "Metaspace", "replacement": "ab"})", ReadPreTokenizer),
            "t.json: 'part.replacement' is \"ab\", expected one character");
  EXPECT_EQ(refused(R"({"type": "Strip", "content": " ", "start": -1})", ReadDecoder),
            "t.json: 'part.start' is -1, expected an integer in [0, 1048576]");
  EXPECT_NE(refused(R"({"type": "CTC"})", ReadDecoder).find("t.json: 'part' is"),
            std::string::npos);
  EXPECT_EQ(
      refused(R"({"type": "Sequence", "normalizers": [
      {"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
      {"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
      {"type": "Replace", "pattern": {"Regex": "x*"}, "content": "aaaaaaaaaaaaaaa"}]})",
              ReadNormalizer),
      "t.json: 'part.normalizers[2].content' is \"aaaaaaaaaaaaaaa\", expected normalizers that "
      "together make a text at most 10000 times as long");
  std::string deep = R"({"type": "NFC"})";
  for (int i = 0; i < 40; ++i) deep = R"({"type": "Sequence", "normalizers": [)" + deep + "]}";
  refused(deep.c_str(), ReadNormalizer);
}

}  // namespace
}  // namespace residual
