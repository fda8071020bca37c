#include "models/text/streaming_decoder.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "models/text/prepare/unicode.h"
#include "tensor/base/random.h"

namespace residual {
namespace {

TEST(StreamingDecoderTest, HoldsBackHalfACharacter) {
  const auto bytes = MakeByteTokenizer();
  StreamingDecoder decoder(bytes.get());
  EXPECT_EQ(decoder.Add('a'), "a");
  EXPECT_EQ(decoder.Add(0xE2), "");
  EXPECT_EQ(decoder.Add(0x82), "");
  EXPECT_EQ(decoder.Add(0xAC), "\u20AC");
  EXPECT_EQ(decoder.Add(0xE2), "");
  EXPECT_EQ(decoder.Add('b'),
            "\uFFFD"
            "b");  // will never be whole
  EXPECT_EQ(decoder.Add(0xFF), "\uFFFD");
  EXPECT_EQ(decoder.Add(0xF0), "");
  EXPECT_EQ(decoder.Finish(), "\uFFFD");
  EXPECT_EQ(decoder.Finish(), "");
}

TEST(StreamingDecoderTest, PartsAreWholeAndTogetherTheText) {
  const auto bpe =
      *TrainBpe("\u4E2D\u6587 \u4E2D\u6587 \u00E9\u00E9\u00E9 \U0001F600\U0001F600", 270);
  const Philox random(2);
  uint64_t draw = 0;
  for (int round = 0; round < 200; ++round) {
    std::vector<int32_t> ids;
    StreamingDecoder decoder(bpe.get());
    std::string text;
    for (int i = 0; i < 30; ++i) {
      ids.push_back(static_cast<int32_t>(random.Below(draw++, bpe->vocab_size())));
      const std::string part = decoder.Add(ids.back());
      EXPECT_EQ(ReplaceInvalid(part), part);
      text += part;
    }
    EXPECT_EQ(text + decoder.Finish(), ReplaceInvalid(bpe->Decode(ids)));
  }
}

// Drops the space that its text begins with, as SentencePiece tokenizers do.
class DropsFirstSpace : public Tokenizer {
 public:
  std::vector<int32_t> Encode(absl::string_view) const override { return {}; }
  std::string Decode(absl::Span<const int32_t> ids) const override {
    std::string text;
    for (const int32_t id : ids) text += TokenText(id);
    return text.empty() ? text : text.substr(1);
  }
  int64_t vocab_size() const override { return 26; }
  std::string TokenText(int32_t id) const override {
    return std::string(" ") + static_cast<char>('a' + id);
  }
  bool IsSpecial(int32_t) const override { return false; }
  absl::Status Save(const std::string&) const override { return absl::OkStatus(); }
};

TEST(StreamingDecoderTest, KeepsSpacesThatOnlyTheFirstTokenLoses) {
  const DropsFirstSpace tokenizer;
  StreamingDecoder decoder(&tokenizer);
  EXPECT_EQ(decoder.Add(0), "a");
  EXPECT_EQ(decoder.Add(1), " b");
  EXPECT_EQ(decoder.Add(2), " c");
  EXPECT_EQ(decoder.Finish(), "");
}

}  // namespace
}  // namespace residual
