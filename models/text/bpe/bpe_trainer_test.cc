#include "models/text/bpe/bpe_trainer.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "models/text/bpe/byte_level.h"
#include "models/text/prepare/pre_tokenizer.h"
#include "tensor/base/random.h"

namespace residual {
namespace {

std::vector<std::string> Merged(const LearnedBpe& learned) {
  std::vector<std::string> merged;
  for (const auto& [left, right] : learned.merges) {
    merged.push_back(learned.tokens[left] + "+" + learned.tokens[right]);
  }
  return merged;
}

TEST(BpeTrainerTest, StartsFromTheBytes) {
  const LearnedBpe learned = LearnBpe("ababab", 256);
  ASSERT_EQ(learned.tokens.size(), 256);
  EXPECT_EQ(learned.tokens[0], "!");
  EXPECT_EQ(learned.tokens[220], " ");
  EXPECT_TRUE(learned.merges.empty());
}

TEST(BpeTrainerTest, TakesTheMostFrequentAndTheSmallestOfEquals) {
  // (a,b) and (c,d) twice each: (a,b) first, for its smaller id; (Ġ,..) once each.
  EXPECT_EQ(Merged(LearnBpe("cd ab,cd,ab", 300)), (std::vector<std::string>{"a+b", "c+d"}));
  // Of equal left ids the smaller right id.
  EXPECT_EQ(Merged(LearnBpe("ac,ab,ac,ab", 257)), (std::vector<std::string>{"a+b"}));
  EXPECT_EQ(Merged(LearnBpe("ac,ab,ac,ab,ac", 257)), (std::vector<std::string>{"a+c"}));
}

TEST(BpeTrainerTest, NothingSpansTwoWords) {
  for (const std::string& token : LearnBpe("to be or not to be or not to be", 400).tokens) {
    EXPECT_EQ(token.find(' ', 1), std::string::npos) << token;
  }
}

TEST(BpeTrainerTest, EndsWhenNoPairOccursTwice) {
  EXPECT_EQ(LearnBpe("", 1000).tokens.size(), 256);
  EXPECT_EQ(LearnBpe("x", 1000).tokens.size(), 256);
  EXPECT_EQ(LearnBpe("abcdefg", 1000).tokens.size(), 256);
  EXPECT_EQ(LearnBpe("aaaa", 1000).tokens.size(), 257);  // aa aa, once
}

// Counts everything anew for every merge.
LearnedBpe SlowLearn(const std::string& text, size_t vocab_size) {
  LearnedBpe learned;
  std::map<std::string, int32_t> ids;
  for (const uint8_t byte : BytesInPrintableOrder()) {
    learned.tokens.push_back(std::string(1, static_cast<char>(byte)));
    ids[learned.tokens.back()] = static_cast<int32_t>(learned.tokens.size()) - 1;
  }
  std::vector<std::vector<int32_t>> words;
  MakeGpt2Pattern()->Split(text, true, [&](absl::string_view word, bool) {
    words.emplace_back();
    for (const char byte : word) words.back().push_back(ids[std::string(1, byte)]);
  });
  while (learned.tokens.size() < vocab_size) {
    std::map<std::pair<int32_t, int32_t>, int64_t> counts;
    for (const auto& word : words) {
      for (size_t i = 0; i + 1 < word.size(); ++i) ++counts[{word[i], word[i + 1]}];
    }
    std::pair<int32_t, int32_t> best;
    int64_t most = 1;
    for (const auto& [pair, count] : counts) {  // in order of (left, right)
      if (count > most) {
        most = count;
        best = pair;
      }
    }
    if (most < 2) break;
    const std::string both = learned.tokens[best.first] + learned.tokens[best.second];
    const auto [it, is_new] = ids.try_emplace(both, learned.tokens.size());
    if (is_new) learned.tokens.push_back(both);
    if (std::find(learned.merges.begin(), learned.merges.end(), best) == learned.merges.end()) {
      learned.merges.push_back(best);
    }
    for (auto& word : words) {
      std::vector<int32_t> merged;
      for (size_t i = 0; i < word.size(); ++i) {
        if (i + 1 < word.size() && word[i] == best.first && word[i + 1] == best.second) {
          merged.push_back(it->second);
          ++i;
        } else {
          merged.push_back(word[i]);
        }
      }
      word = merged;
    }
  }
  return learned;
}

TEST(BpeTrainerTest, EqualsCountingAnew) {
  const Philox random(11);
  uint64_t draw = 0;
  for (const std::string alphabet :
       {"ab", "abc  ", "aaab ", "abcdefgh   ''s9", "a\xC3\xA9\xFF b"}) {
    for (int round = 0; round < 10; ++round) {
      std::string text;
      const int64_t length = 20 + random.Below(draw++, 400);
      for (int64_t i = 0; i < length; ++i) text += alphabet[random.Below(draw++, alphabet.size())];
      const LearnedBpe got = LearnBpe(text, 310), want = SlowLearn(text, 310);
      ASSERT_EQ(got.tokens, want.tokens) << text;
      ASSERT_EQ(got.merges, want.merges) << text;
    }
  }
}

TEST(BpeTrainerTest, AMegabyteWithoutAWordBreakIsNoTrouble) {
  std::string text;
  const Philox random(5);
  while (text.size() < 1000000) {
    text += static_cast<char>('a' + random.Below(text.size(), 26));
  }
  EXPECT_EQ(LearnBpe(text, 2000).tokens.size(), 2000);
}

}  // namespace
}  // namespace residual
