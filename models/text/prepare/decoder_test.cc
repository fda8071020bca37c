#include "models/text/prepare/decoder.h"

#include <utility>

#include "absl/strings/str_join.h"
#include "gtest/gtest.h"

namespace residual {
namespace {

using Tokens = std::vector<std::string>;

Tokens Apply(const std::unique_ptr<Decoder>& decoder, Tokens tokens) {
  decoder->Apply(&tokens);
  return tokens;
}

TEST(DecoderTest, FuseAndSpaceBetween) {
  EXPECT_EQ(Apply(MakeFuse(), {"a", "b"}), Tokens{"ab"});
  EXPECT_EQ(Apply(MakeSpaceBetween(), {"a", "b"}), Tokens{"a b"});
  EXPECT_EQ(Apply(MakeFuse(), {}), Tokens{""});
}

TEST(DecoderTest, Replace) {
  EXPECT_EQ(Apply(MakeReplaceInTokens(std::string("_"), " "), {"_a_", "b"}), (Tokens{" a ", "b"}));
  EXPECT_EQ(Apply(MakeReplaceInTokens(*Regex::Compile("b+"), "-"), {"abb"}), (Tokens{"a-"}));
}

TEST(DecoderTest, ByteFallback) {
  EXPECT_EQ(Apply(MakeByteFallback(), {"a", "<0xE2>", "<0x82>", "<0xAC>", "b"}),
            (Tokens{"a", "\u20AC", "b"}));
  // One of the bytes in a row is none of UTF-8: all are replaced.
  EXPECT_EQ(Apply(MakeByteFallback(), {"<0x41>", "<0xFF>"}), (Tokens{"\uFFFD", "\uFFFD"}));
  EXPECT_EQ(Apply(MakeByteFallback(), {"<0xE2>"}), (Tokens{"\uFFFD"}));
  EXPECT_EQ(ByteOfToken("<0x0a>"), 10);
  EXPECT_EQ(ByteOfToken("<0x0g>"), -1);
  EXPECT_EQ(ByteOfToken("<0x0A"), -1);
}

TEST(DecoderTest, StripTakesAtMostSoMany) {
  EXPECT_EQ(Apply(MakeStripTokens(" ", 1, 0), {"  a ", "b"}), (Tokens{" a ", "b"}));
  EXPECT_EQ(Apply(MakeStripTokens(" ", 0, 2), {"a   ", "b"}), (Tokens{"a ", "b"}));
}

TEST(DecoderTest, Metaspace) {
  EXPECT_EQ(Apply(MakeMetaspaceDecoder("_", true), {"_a_", "_b"}), (Tokens{"a", " b"}));
  EXPECT_EQ(Apply(MakeMetaspaceDecoder("_", false), {"_a", "b"}), (Tokens{" a", "b"}));
}

TEST(DecoderTest, WordPiece) {
  const Tokens tokens = {"don", "'", "t", "stop", "##ping", ",", "it", "'s", "late", "!"};
  EXPECT_EQ(absl::StrJoin(Apply(MakeWordPieceDecoder("##", true), tokens), ""),
            "don ' t stopping, it's late!");
  EXPECT_EQ(absl::StrJoin(Apply(MakeWordPieceDecoder("##", false), {"##a", "b", "."}), ""),
            "##a b .");
}

TEST(DecoderTest, SequenceGoesInOrder) {
  std::vector<std::unique_ptr<Decoder>> steps;
  steps.push_back(MakeReplaceInTokens(std::string("_"), " "));
  steps.push_back(MakeFuse());
  steps.push_back(MakeStripTokens(" ", 1, 0));
  EXPECT_EQ(Apply(MakeDecoderSequence(std::move(steps)), {"_a", "_b"}), Tokens{"a b"});
}

}  // namespace
}  // namespace residual
