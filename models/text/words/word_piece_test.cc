#include "models/text/words/word_piece.h"

#include <vector>

#include "gtest/gtest.h"

namespace residual {
namespace {

using Ids = std::vector<int32_t>;

Ids Encode(const TokenModel& model, const std::string& word) {
  Ids ids = {99};  // what was there before stays
  model.Encode(word, &ids);
  EXPECT_EQ(ids[0], 99);
  ids.erase(ids.begin());
  return ids;
}

TEST(WordPieceTest, TakesTheLongestThatFits) {
  const auto model = MakeWordPiece(
      {{"[UNK]", 0}, {"un", 1}, {"##aff", 2}, {"##able", 3}, {"##a", 4}, {"unaff", 5}, {"##", 6}},
      {});
  EXPECT_EQ(Encode(*model, "unaffable"), (Ids{5, 3}));
  EXPECT_EQ(Encode(*model, "una"), (Ids{1, 4}));
  EXPECT_EQ(Encode(*model, "unx"), (Ids{0}));   // half a word is none
  EXPECT_EQ(Encode(*model, "able"), (Ids{0}));  // "##able" begins no word
  EXPECT_EQ(Encode(*model, "##able"), (Ids{3}));
}

TEST(WordPieceTest, LongWordsAreUnknown) {
  WordPieceOptions options;
  options.max_characters = 3;
  const auto model = MakeWordPiece({{"[UNK]", 0}, {"\u00E9", 1}, {"##\u00E9", 2}}, options);
  EXPECT_EQ(Encode(*model, "\u00E9\u00E9\u00E9"), (Ids{1, 2, 2}));
  EXPECT_EQ(Encode(*model, "\u00E9\u00E9\u00E9\u00E9"), (Ids{0}));
}

TEST(WordLevelTest, OneTokenAWord) {
  EXPECT_EQ(Encode(*MakeWordLevel({{"a", 3}}, 1), "a"), Ids{3});
  EXPECT_EQ(Encode(*MakeWordLevel({{"a", 3}}, 1), "b"), Ids{1});
  EXPECT_EQ(Encode(*MakeWordLevel({{"a", 3}}, -1), "b"), Ids{});
}

}  // namespace
}  // namespace residual
