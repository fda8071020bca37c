#include "models/text/sentence_piece/sentence_piece.h"

#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tensor/io/file.h"

namespace residual {
namespace {

constexpr char kFolder[] = "models/text/sentence_piece/testdata/";

std::string Model() { return *ReadFile(std::string(kFolder) + "tiny.model"); }

// What SentencePiece 0.2.3 says; see tests/tokenizers/make_sentence_piece.py.
nlohmann::json Expected() {
  return nlohmann::json::parse(*ReadFile(std::string(kFolder) + "tiny.json"));
}

TEST(SentencePieceTest, EncodesAndDecodesAsTheReference) {
  const auto tokenizer = TokenizerFromSentencePiece(Model(), "tiny.model");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const nlohmann::json expected = Expected();
  EXPECT_EQ((*tokenizer)->vocab_size(), expected["vocab_size"]);
  ASSERT_GT(expected["cases"].size(), 10);
  for (const auto& one : expected["cases"]) {
    const auto ids = one["ids"].get<std::vector<int32_t>>();
    EXPECT_EQ((*tokenizer)->Encode(one["text"].get<std::string>()), ids) << one["text"];
    EXPECT_EQ((*tokenizer)->Decode(ids), one["decoded"]) << one["text"];
  }
}

TEST(SentencePieceTest, Tokens) {
  const auto tokenizer = *TokenizerFromSentencePiece(Model(), "tiny.model");
  EXPECT_TRUE(tokenizer->IsSpecial(0) && tokenizer->IsSpecial(1));
  EXPECT_FALSE(tokenizer->IsSpecial(3));  // a user-defined symbol is text
  EXPECT_EQ(tokenizer->TokenText(3), "[CLS]");
  EXPECT_EQ(tokenizer->TokenText(5 + 0xE2), "\xE2");
  EXPECT_EQ(tokenizer->TokenText(270), " the");
  for (const int32_t none : {-1, 400, 1 << 30}) {
    EXPECT_EQ(tokenizer->TokenText(none), "");
    EXPECT_FALSE(tokenizer->IsSpecial(none));
    EXPECT_EQ(tokenizer->Decode({270, none}), "the");
  }
}

TEST(SentencePieceTest, SavesWhatWasLoaded) {
  const auto tokenizer = *TokenizerFromSentencePiece(Model(), "tiny.model");
  const std::string folder = testing::TempDir();
  ASSERT_TRUE(tokenizer->Save(folder).ok());
  EXPECT_EQ(*ReadFile(JoinPath(folder, "spiece.model")), Model());
}

TEST(SentencePieceTest, RefusesWhatIsNoModel) {
  for (const std::string& bytes :
       {std::string(), std::string("no model"), Model().substr(0, 3000)}) {
    const auto tokenizer = TokenizerFromSentencePiece(bytes, "x/spiece.model");
    ASSERT_FALSE(tokenizer.ok());
    EXPECT_EQ(tokenizer.status().message().find("x/spiece.model: is no SentencePiece model ("), 0)
        << tokenizer.status();
  }
}

}  // namespace
}  // namespace residual
