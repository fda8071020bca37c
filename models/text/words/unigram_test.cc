#include "models/text/words/unigram.h"

#include <cmath>
#include <functional>
#include <limits>

#include "absl/strings/str_format.h"
#include "gtest/gtest.h"
#include "tensor/base/random.h"

namespace residual {
namespace {

using Ids = std::vector<int32_t>;

Ids Encode(const TokenModel& model, const std::string& text) {
  Ids ids;
  model.Encode(text, &ids);
  return ids;
}

TEST(UnigramTest, TakesTheMostLikelyWay) {
  const std::vector<UnigramToken> tokens = {{"<unk>", 0}, {"a", -1},    {"b", -2},
                                            {"ab", -2.5}, {"abc", -10}, {"c", -3}};
  const auto model = MakeUnigram(tokens, {0, false});
  EXPECT_EQ(Encode(*model, "ab"), (Ids{3}));
  EXPECT_EQ(Encode(*model, "abc"), (Ids{3, 5}));
  EXPECT_EQ(Encode(*model, "ba"), (Ids{2, 1}));
  EXPECT_EQ(Encode(*model, ""), Ids{});
  // Unknown characters in a row are one.
  EXPECT_EQ(Encode(*model, "a\u00E9\u4E2Dzb"), (Ids{1, 0, 2}));
  EXPECT_EQ(Encode(*MakeUnigram(tokens, {}), "a\u00E9"), (Ids{1}));
}

TEST(UnigramTest, ByteFallback) {
  std::vector<UnigramToken> tokens = {{"<unk>", 0}, {"a", -1}};
  for (int byte = 0; byte < 256; ++byte) tokens.push_back({absl::StrFormat("<0x%02X>", byte), -5});
  EXPECT_EQ(Encode(*MakeUnigram(tokens, {0, true}), "a\u00E9"), (Ids{1, 2 + 0xC3, 2 + 0xA9}));
  tokens.pop_back();  // without the byte FF there is none
  EXPECT_EQ(Encode(*MakeUnigram(tokens, {0, true}), "a\u00E9"), (Ids{1, 0}));
}

TEST(UnigramTest, EqualsTryingAllWays) {
  const Philox random(3);
  uint64_t draw = 0;
  for (int round = 0; round < 300; ++round) {
    std::vector<UnigramToken> tokens = {{"?", -4}};
    for (int i = 0; i < 8; ++i) {
      std::string text;
      const int64_t length = 1 + random.Below(draw++, 3);
      for (int64_t j = 0; j < length; ++j) text += static_cast<char>('a' + random.Below(draw++, 3));
      tokens.push_back({text, -1 - static_cast<double>(random.Below(draw++, 1000)) / 250});
    }
    double least = 0;
    for (const UnigramToken& token : tokens) least = std::min(least, token.log_probability);
    std::string text;
    const int64_t length = random.Below(draw++, 10);
    for (int64_t j = 0; j < length; ++j) text += static_cast<char>('a' + random.Below(draw++, 4));

    const std::function<double(size_t)> best = [&](size_t at) -> double {
      if (at == text.size()) return 0;
      double most = least - 10 + best(at + 1);      // unknown
      for (size_t i = 1; i < tokens.size(); ++i) {  // the later of two equal ones counts
        bool replaced = false;
        for (size_t j = i + 1; j < tokens.size(); ++j) replaced |= tokens[j].text == tokens[i].text;
        if (!replaced && text.compare(at, tokens[i].text.size(), tokens[i].text) == 0) {
          most = std::max(most, tokens[i].log_probability + best(at + tokens[i].text.size()));
        }
      }
      return most;
    };
    double score = 0;
    size_t covered = 0;
    bool unknown = false;
    for (const int32_t id : Encode(*MakeUnigram(tokens, {0, false}), text)) {
      if (id == 0) {
        unknown = true;
      } else {
        score += tokens[id].log_probability;
        covered += tokens[id].text.size();
      }
    }
    if (unknown) score += static_cast<double>(text.size() - covered) * (least - 10);
    EXPECT_NEAR(score, best(0), 1e-9) << text;
  }
}

}  // namespace
}  // namespace residual
