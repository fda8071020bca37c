#include "models/text/tokenizer.h"

#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gtest/gtest.h"
#include "models/text/streaming_decoder.h"
#include "models/text/tokenizer_json.h"
#include "nlohmann/json.hpp"
#include "tensor/base/random.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

using Ids = std::vector<int32_t>;
using Json = nlohmann::json;

constexpr char kText[] =
    "The cat sat on the mat. The dog didn't sit on the mat; the cat's mat isn't the dog's.\n"
    "That cat sat, that dog didn't. 12 cats, 12 mats, 1212 rats.\n";

std::string RandomBytes(int64_t length, uint64_t seed) {
  const Philox random(seed);
  std::string bytes;
  for (int64_t i = 0; i < length; ++i) bytes += static_cast<char>(random.Below(i, 256));
  return bytes;
}

// Bytes, words and characters of all lengths, whole and cut.
std::string RandomText(uint64_t seed) {
  const Philox random(seed, 1);
  const std::vector<std::string> parts = {
      "the",           " cat",          " ",          "\n",       "didn't", "12",
      "\u00E9",        " \u4E2D\u6587", "\U0001F600", "\xE2\x82", "\xFF",   std::string(1, '\0'),
      "<|endoftext|>", "\u00A0",        "<"};
  std::string text;
  for (int i = 0; i < 20; ++i) text += parts[random.Below(i, parts.size())];
  return text;
}

std::string Folder(const std::string& name) {
  const std::string folder = absl::StrCat(testing::TempDir(), "/", name);
  EXPECT_TRUE(MakeFolders(folder).ok());
  return folder;
}

// As errors show it: JSON in ASCII, without the quotes.
std::string Escaped(const std::string& text) {
  const std::string json = Json(text).dump(-1, ' ', true, Json::error_handler_t::replace);
  return json.substr(1, json.size() - 2);
}

std::unique_ptr<Tokenizer> Trained(int64_t vocab_size = 276) {
  return *TrainBpe(kText, vocab_size);
}

void ExpectRoundTrips(const Tokenizer& tokenizer) {
  for (int i = 0; i < 300; ++i) {
    const std::string text = i % 2 ? RandomBytes(i, i) : RandomText(i);
    ASSERT_EQ(tokenizer.Decode(tokenizer.Encode(text)), text) << testing::PrintToString(text);
  }
}

TEST(TokenizerTest, ByteTokenizer) {
  const auto bytes = MakeByteTokenizer();
  EXPECT_EQ(bytes->vocab_size(), 256);
  EXPECT_EQ(bytes->Encode("a\xFF"), (Ids{97, 255}));
  EXPECT_EQ(bytes->Encode(""), Ids{});
  EXPECT_EQ(bytes->TokenText(10), "\n");
  EXPECT_EQ(bytes->TokenText(-1), "");
  EXPECT_EQ(bytes->TokenText(256), "");
  EXPECT_EQ(bytes->Decode({104, 256, -5, 105}), "hi");
  EXPECT_FALSE(bytes->IsSpecial(0));
  ExpectRoundTrips(*bytes);
}

TEST(TokenizerTest, TrainedBpe) {
  const auto bpe = Trained();
  EXPECT_EQ(bpe->vocab_size(), 276);
  ExpectRoundTrips(*bpe);
  const Ids ids = bpe->Encode(kText);
  EXPECT_LT(ids.size(), std::string(kText).size() / 2);
  std::string joined;
  for (const int32_t id : ids) {
    EXPECT_TRUE(id >= 0 && id < 276);
    joined += bpe->TokenText(id);
  }
  EXPECT_EQ(joined, kText);
  EXPECT_EQ(bpe->Encode(" the").size(), 1);
}

TEST(TokenizerTest, TrainingIsDeterministicAndShorterOnesArePrefixes) {
  const auto a = Trained(), b = Trained(), shorter = Trained(266);
  for (int32_t id = 0; id < 276; ++id) {
    EXPECT_EQ(a->TokenText(id), b->TokenText(id));
    EXPECT_EQ(shorter->TokenText(id), id < 266 ? a->TokenText(id) : "");
  }
}

TEST(TokenizerTest, TrainingChecksTheSize) {
  EXPECT_EQ(TrainBpe("text", 255).status().message(),
            "a vocabulary of 255 tokens, expected 256 (the bytes) to 1048576");
  EXPECT_FALSE(TrainBpe("text", int64_t{1} << 21).ok());
  EXPECT_EQ((*TrainBpe("short", 5000))->vocab_size(), 256);
}

TEST(TokenizerTest, SavedIsLoadedEqual) {
  const std::string folder = Folder("saved");
  for (const bool bytes : {true, false}) {
    const auto tokenizer = bytes ? MakeByteTokenizer() : Trained();
    ASSERT_TRUE(tokenizer->Save(folder).ok());
    for (const std::string& path : {folder, folder + "/tokenizer.json"}) {
      const auto loaded = LoadTokenizer(path);
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      EXPECT_EQ((*loaded)->vocab_size(), tokenizer->vocab_size());
      for (int i = 0; i < 100; ++i) {
        EXPECT_EQ((*loaded)->Encode(RandomText(i)), tokenizer->Encode(RandomText(i)));
      }
    }
  }
  EXPECT_EQ(MakeByteTokenizer()->Save("/no/such/folder").code(), absl::StatusCode::kNotFound);
}

TEST(TokenizerTest, VocabAndMergesEqualTokenizerJson) {
  const std::string folder = Folder("two_files");
  const auto bpe = Trained();
  ASSERT_TRUE(bpe->Save(folder).ok());
  const Json saved = Json::parse(*ReadFile(folder + "/tokenizer.json"));
  std::remove((folder + "/tokenizer.json").c_str());
  std::string merges = "#version: 0.2\n";
  for (const Json& pair : saved["model"]["merges"]) {
    absl::StrAppend(&merges, pair[0].get<std::string>(), " ", pair[1].get<std::string>(), "\n");
  }
  Json vocab = saved["model"]["vocab"];
  vocab["<|endoftext|>"] = 276;
  ASSERT_TRUE(WriteFileAtomically(folder + "/vocab.json", vocab.dump()).ok());
  ASSERT_TRUE(WriteFileAtomically(folder + "/merges.txt", merges).ok());
  for (const std::string& path : {folder, folder + "/vocab.json"}) {
    const auto loaded = LoadTokenizer(path);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_EQ((*loaded)->vocab_size(), 277);
    EXPECT_TRUE((*loaded)->IsSpecial(276));
    EXPECT_EQ((*loaded)->Encode(kText), bpe->Encode(kText));
    EXPECT_EQ((*loaded)->Encode("a<|endoftext|>"), (Ids{bpe->Encode("a")[0], 276}));
    ExpectRoundTrips(**loaded);
  }

  for (const char* line : {"a b c", "ab", "a \u4E2D", "\u0120 \u0120z", "a  b", "a \xFF"}) {
    ASSERT_TRUE(WriteFileAtomically(folder + "/merges.txt", absl::StrCat("#version\n", line)).ok());
    EXPECT_EQ(
        LoadTokenizer(folder).status().message(),
        absl::StrCat(folder, "/merges.txt: line 2 is \"", Escaped(line),
                     "\", expected two tokens of ", folder, "/vocab.json, and both together one"));
  }
}

TEST(TokenizerTest, SaysWhereThereIsNone) {
  const std::string folder = Folder("none");
  EXPECT_EQ(LoadTokenizer(folder).status().message(),
            folder +
                ": no tokenizer, expected tokenizer.json, or vocab.json and merges.txt, or "
                "spiece.model, or vocab.txt");
  EXPECT_EQ(LoadTokenizer(folder + "/absent").status().code(), absl::StatusCode::kNotFound);
}

// A tokenizer.json to change, of bytes and the merges "th", "the".
Json Description() {
  std::vector<std::string> tokens;
  for (int b = 0; b < 256; ++b) tokens.push_back(std::string(1, static_cast<char>(b)));
  tokens.push_back("th");
  tokens.push_back("the");
  return Json::parse(ByteLevelBpeJson(tokens, {{'t', 'h'}, {256, 'e'}}));
}

TEST(TokenizerJsonTest, AddedTokens) {
  Json json = Description();
  json["added_tokens"] = {
      {{"id", 258}, {"content", "<|end|>"}, {"special", true}, {"normalized", false}},
      {{"id", 259}, {"content", "the cat"}, {"special", false}},
      {{"id", 256}, {"content", "th"}, {"special", false}}};
  const auto tokenizer = *TokenizerFromJson(json.dump(), "t.json");
  EXPECT_EQ(tokenizer->vocab_size(), 260);
  EXPECT_EQ(tokenizer->Encode("the<|end|>the cat"), (Ids{256, 'e', 258, 259}));
  EXPECT_TRUE(tokenizer->IsSpecial(258));
  EXPECT_FALSE(tokenizer->IsSpecial(259));
  EXPECT_EQ(tokenizer->TokenText(258), "<|end|>");
  EXPECT_EQ(tokenizer->Decode({258, 259}), "<|end|>the cat");
}

TEST(TokenizerJsonTest, NormalizedAddedTokensAreSoughtInNormalizedText) {
  Json json = Description();
  json["normalizer"] = {{"type", "NFC"}};
  json["added_tokens"] = {{{"id", 258}, {"content", "\u1EBF"}, {"normalized", true}},
                          {{"id", 259}, {"content", "e\u0301!"}, {"normalized", false}}};
  const auto tokenizer = *TokenizerFromJson(json.dump(), "t.json");
  EXPECT_EQ(tokenizer->Encode("e\u0302\u0301?"), (Ids{258, '?'}));
  EXPECT_EQ(tokenizer->Encode("e\u0301!"), (Ids{259}));
}

TEST(TokenizerJsonTest, PrefixSpace) {
  Json json = Description();
  json["pre_tokenizer"]["add_prefix_space"] = true;
  json["added_tokens"] = {{{"id", 258}, {"content", "<e>"}, {"special", true}}};
  const auto tokenizer = *TokenizerFromJson(json.dump(), "t.json");
  EXPECT_EQ(tokenizer->Encode("the<e>the"), (Ids{' ', 257, 258, ' ', 257}));
  EXPECT_EQ(tokenizer->Encode(" a"), (Ids{' ', 'a'}));
  EXPECT_EQ(tokenizer->Encode(""), Ids{});
}

TEST(TokenizerJsonTest, CharactersWithoutByteLevel) {
  Json json = Description();
  json["pre_tokenizer"] = nullptr;
  json["decoder"] = {{"type", "Fuse"}};
  json["model"]["vocab"] = {{"a", 0}, {"\u00E9", 1}, {"a\u00E9", 2}};
  json["model"]["merges"] = {"a \u00E9"};
  const auto tokenizer = *TokenizerFromJson(json.dump(), "t.json");
  EXPECT_EQ(tokenizer->Encode("\u00E9aa\u00E9?"), (Ids{1, 0, 2}));
  EXPECT_EQ(tokenizer->Decode({1, 2}), "\u00E9a\u00E9");
}

// As Llama 2's: characters, with bytes for what is no token, and U+2581 for a space.
TEST(TokenizerJsonTest, SentencePieceBpe) {
  Json vocab = {{"<unk>", 0}, {"<s>", 1}};
  for (int byte = 0; byte < 256; ++byte) vocab[absl::StrFormat("<0x%02X>", byte)] = 2 + byte;
  for (const char* token : {"\u2581", "a", "b", "\u2581a", "\u2581ab"}) {
    const int id = static_cast<int>(vocab.size());
    vocab[token] = id;
  }
  Json json = {{"added_tokens", {{{"id", 1}, {"content", "<s>"}, {"special", true}}}},
               {"normalizer",
                {{"type", "Sequence"},
                 {"normalizers",
                  {{{"type", "Prepend"}, {"prepend", "\u2581"}},
                   {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}}}}}},
               {"pre_tokenizer", nullptr},
               {"decoder",
                {{"type", "Sequence"},
                 {"decoders",
                  {{{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}},
                   {{"type", "ByteFallback"}},
                   {{"type", "Fuse"}},
                   {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}}},
               {"model",
                {{"type", "BPE"},
                 {"unk_token", "<unk>"},
                 {"fuse_unk", true},
                 {"byte_fallback", true},
                 {"vocab", vocab},
                 {"merges", {"\u2581 a", "\u2581a b"}}}}};
  const auto tokenizer = *TokenizerFromJson(json.dump(), "t.json");
  EXPECT_EQ(tokenizer->Encode("ab a\u00E9"), (Ids{262, 261, 2 + 0xC3, 2 + 0xA9}));
  EXPECT_EQ(tokenizer->Encode("<s>ab<s>b"), (Ids{1, 262, 1, 258, 260}));
  EXPECT_EQ(tokenizer->Decode({262, 261, 2 + 0xC3, 2 + 0xA9}), "ab a\u00E9");
  EXPECT_EQ(tokenizer->Decode({261, 2 + 0xC3, 260}), "a\uFFFDb");
  EXPECT_EQ(tokenizer->TokenText(261), " a");
  EXPECT_EQ(tokenizer->TokenText(2 + 0xC3), "\xC3");
  // As they come: nothing waits but the bytes of a character.
  StreamingDecoder stream(tokenizer.get());
  EXPECT_EQ(stream.Add(261), "a");
  EXPECT_EQ(stream.Add(261), " a");
  EXPECT_EQ(stream.Add(2 + 0xC3), "");
  EXPECT_EQ(stream.Add(2 + 0xA9), "\u00E9");
  EXPECT_EQ(stream.Add(2 + 0xC3), "");
  EXPECT_EQ(stream.Finish(), "\uFFFD");
  EXPECT_EQ(stream.Add(261), "a");  // a new text
}

// As T5's and XLM-R's: unigram with Metaspace.
TEST(TokenizerJsonTest, Unigram) {
  Json json = {{"pre_tokenizer", {{"type", "Metaspace"}, {"replacement", "_"}}},
               {"decoder", {{"type", "Metaspace"}, {"replacement", "_"}}},
               {"model", {{"type", "Unigram"}, {"unk_id", 0}}}};
  json["model"]["vocab"] =
      Json::parse(R"([["<unk>", 0], ["_a", -1], ["_", -2], ["b", -2.5], ["a", -3.5]])");
  const auto tokenizer = *TokenizerFromJson(json.dump(), "t.json");
  EXPECT_EQ(tokenizer->Encode("ab aaz"), (Ids{1, 3, 1, 4, 0}));
  EXPECT_EQ(tokenizer->Decode({1, 3, 1, 4}), "ab aa");
  // Only a word that begins the text as it was given is prefixed.
  json["pre_tokenizer"]["prepend_scheme"] = "first";
  json["normalizer"] = {{"type", "Nmt"}};
  json["added_tokens"] = {{{"id", 0}, {"content", "<unk>"}, {"special", true}}};
  const auto first = *TokenizerFromJson(json.dump(), "t.json");
  EXPECT_EQ(first->Encode("a a<unk>a"), (Ids{1, 1, 0, 4}));
  EXPECT_EQ(first->Encode("\x01"
                          "a a"),
            (Ids{4, 1}));
  json["model"]["unk_id"] = 5;
  EXPECT_EQ(TokenizerFromJson(json.dump(), "t.json").status().message(),
            "t.json: 'model.unk_id' is 5, expected an integer in [0, 4]");
  json["model"]["vocab"][3] = Json::array({"b"});
  EXPECT_EQ(TokenizerFromJson(json.dump(), "t.json").status().message(),
            "t.json: 'model.vocab[3]' is [\"b\"], expected a token and its log-probability");
}

TEST(TokenizerJsonTest, WordLevel) {
  const Json json = {
      {"pre_tokenizer", {{"type", "WhitespaceSplit"}}},
      {"model",
       {{"type", "WordLevel"}, {"unk_token", "?"}, {"vocab", {{"?", 0}, {"one", 1}, {"two", 2}}}}}};
  const auto tokenizer = *TokenizerFromJson(json.dump(), "t.json");
  EXPECT_EQ(tokenizer->Encode(" two  three one"), (Ids{2, 0, 1}));
  EXPECT_EQ(tokenizer->Decode({2, 1}), "two one");
}

// BERT's files.
TEST(TokenizerTest, WordPieceVocabulary) {
  const std::string folder = Folder("bert");
  ASSERT_TRUE(
      WriteFileAtomically(folder + "/vocab.txt", "[PAD]\n[UNK]\n[CLS]\ncaf\u00E9\ncafe\n##s\n,\n")
          .ok());
  auto tokenizer = LoadTokenizer(folder);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->Encode("[CLS]Caf\u00E9s, bar"), (Ids{2, 4, 5, 6, 1}));
  EXPECT_EQ((*tokenizer)->Decode({4, 5, 6, 3}), "cafes, caf\u00E9");
  EXPECT_EQ((*tokenizer)->TokenText(5), "s");
  EXPECT_TRUE((*tokenizer)->IsSpecial(2));
  EXPECT_EQ((*LoadTokenizer(folder + "/vocab.txt"))->vocab_size(), 7);

  ASSERT_TRUE(WriteFileAtomically(folder + "/tokenizer_config.json",
                                  R"({"do_lower_case": false, "strip_accents": false})")
                  .ok());
  EXPECT_EQ((*LoadTokenizer(folder))->Encode("caf\u00E9 Cafe"), (Ids{3, 1}));

  ASSERT_TRUE(WriteFileAtomically(folder + "/vocab.txt", "a\nb\na\n").ok());
  EXPECT_EQ(LoadTokenizer(folder).status().message(),
            folder + "/vocab.txt: line 3 is \"a\", expected a token not named before");
  ASSERT_TRUE(WriteFileAtomically(folder + "/vocab.txt", "[UNK]\n\xE9\n").ok());
  EXPECT_EQ(LoadTokenizer(folder).status().message(),
            folder + "/vocab.txt: holds bytes that are no UTF-8");
  ASSERT_TRUE(WriteFileAtomically(folder + "/vocab.txt", "a\nb\n").ok());
  EXPECT_EQ(LoadTokenizer(folder).status().message(),
            folder + "/vocab.txt: has no line [UNK], expected a WordPiece vocabulary");
}

TEST(TokenizerTest, SentencePieceModel) {
  const std::string model = "models/text/sentence_piece/testdata/tiny.model";
  EXPECT_EQ((*LoadTokenizer(model))->Decode({270, 327}), "the stream");
  const std::string folder = Folder("spm");
  ASSERT_TRUE((*LoadTokenizer(model))->Save(folder).ok());
  EXPECT_EQ((*LoadTokenizer(folder))->Encode("the stream"), (Ids{270, 327}));
}

TEST(TokenizerJsonTest, SavesWhatWasLoaded) {
  const std::string text = Description().dump(3), folder = Folder("as_loaded");
  ASSERT_TRUE((*TokenizerFromJson(text, "t.json"))->Save(folder).ok());
  EXPECT_EQ(*ReadFile(folder + "/tokenizer.json"), text);
}

TEST(TokenizerJsonTest, RefusesByFileAndField) {
  auto message = [](const std::string& pointer, const Json& value) {
    Json json = Description();
    json[Json::json_pointer(pointer)] = value;
    return std::string(TokenizerFromJson(json.dump(), "t.json").status().message());
  };
  EXPECT_EQ(message("/model/type", "XYZ"),
            "t.json: 'model.type' is \"XYZ\", expected BPE, WordPiece, WordLevel or Unigram");
  EXPECT_EQ(message("/model/type", "Unigram"),
            "t.json: 'model.vocab' is an object of 258, expected a list of tokens and their "
            "log-probabilities");
  EXPECT_EQ(message("/model/vocab/q", 1.5),
            "t.json: 'model.vocab.q' is 1.5, expected an integer in [0, 2147483646]");
  EXPECT_EQ(message("/model/vocab/q", -1),
            "t.json: 'model.vocab.q' is -1, expected an integer in [0, 2147483646]");
  EXPECT_EQ(
      message("/model/vocab/q", uint64_t{1} << 63),
      "t.json: 'model.vocab.q' is 9223372036854775808, expected an integer in [0, 2147483646]");
  EXPECT_EQ(
      message("/model/vocab/q", 2147483646),
      "t.json: 'model.vocab' is sparse: 258 tokens, largest id 2147483646, expected ids from 0 "
      "on");
  EXPECT_EQ(message("/model/vocab/qq", 'q'),
            "t.json: 'model.vocab.qq' is 113, expected an id other than that of 'q'");
  EXPECT_EQ(message("/model/vocab", Json::array({"a"})),
            "t.json: 'model.vocab' is [\"a\"], expected an object of tokens and their ids");
  EXPECT_EQ(message("/model/merges", nullptr),
            "t.json: 'model.merges' is null, expected a list of pairs of tokens");
  EXPECT_EQ(message("/model/merges/0", Json::array({"t"})),
            "t.json: 'model.merges[0]' is [\"t\"], expected two tokens");
  EXPECT_EQ(message("/model/merges/0", Json::array({"t", 1})),
            "t.json: 'model.merges[0]' is [\"t\",1], expected two tokens");
  EXPECT_EQ(message("/model/merges/1", "t e"),
            "t.json: 'model.merges[1]' is \"t e\", expected two tokens of the vocabulary, and both "
            "together one");
  EXPECT_EQ(message("/model/dropout", 0.1), "t.json: 'model.dropout' is 0.1, expected null");
  EXPECT_EQ(message("/model/end_of_word_suffix", "</w>"),
            "t.json: 'model.end_of_word_suffix' is \"</w>\", expected null");
  EXPECT_EQ(message("/model/unk_token", "[UNK]"),
            "t.json: 'model.unk_token' is \"[UNK]\", expected a token of the vocabulary");
  EXPECT_EQ(message("/model/fuse_unk", 1), "t.json: 'model.fuse_unk' is 1, expected true or false");
  EXPECT_EQ(message("/pre_tokenizer/type", "UnicodeScripts").substr(0, 30),
            "t.json: 'pre_tokenizer' is {\"a");
  EXPECT_EQ(message("/normalizer", {{"type", "ABC"}}).substr(0, 42),
            "t.json: 'normalizer' is {\"type\":\"ABC\"}, ex");
  EXPECT_EQ(message("/decoder", nullptr),
            "t.json: 'decoder' is null, expected one of type ByteLevel, as the pre-tokenizer is");
  EXPECT_EQ(message("/pre_tokenizer", nullptr).substr(0, 47),
            "t.json: 'decoder' is {\"add_prefix_space\":false,");
  EXPECT_EQ(message("/added_tokens", 3), "t.json: 'added_tokens' is 3, expected a list");
  EXPECT_EQ(message("/added_tokens", {{{"id", 1}, {"content", "q"}}}),
            "t.json: 'added_tokens[0].id' is 1, expected 113 as in model.vocab");
  EXPECT_EQ(message("/added_tokens", {{{"id", 113}, {"content", "<e>"}}}),
            "t.json: 'added_tokens[0].id' is 113, expected an id other than that of 'q'");

  auto of = [](const std::string& text) {
    return std::string(TokenizerFromJson(text, "t.json").status().message());
  };
  EXPECT_EQ(of("[]"), "t.json: holds [], expected a JSON object");
  EXPECT_EQ(of("").substr(0, 24), "t.json: not valid JSON: ");
  EXPECT_EQ(of("{\"model\": {\"vocab\": {\"a\": 0, \"a\": 1}}}").substr(0, 7), "t.json:");
  EXPECT_EQ(of("{\"x\":" + std::string(100000, '[') + std::string(100000, ']') + "}").substr(0, 7),
            "t.json:");
  EXPECT_EQ(of("{\"x\":" + std::string(100000, '[')).substr(0, 7), "t.json:");
}

}  // namespace
}  // namespace residual
