#include "models/text/bpe/bpe.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tensor/base/random.h"

namespace residual {
namespace {

using Ids = std::vector<int32_t>;

Ids Encode(const TokenModel& model, absl::string_view piece) {
  Ids ids;
  model.Encode(piece, &ids);
  return ids;
}

TEST(BpeTest, LowestRankFirstThenLeftmost) {
  const TokenIds ids = {{"a", 0}, {"b", 1}, {"c", 2}, {"bc", 3}, {"ab", 4}, {"aa", 5}, {"abc", 6}};
  const auto bpe = MakeBpe(ids, {{1, 2, 3}, {0, 1, 4}, {0, 0, 5}}, {});
  EXPECT_EQ(Encode(*bpe, "abc"), (Ids{0, 3}));
  EXPECT_EQ(Encode(*bpe, "ab"), (Ids{4}));
  EXPECT_EQ(Encode(*bpe, "aaa"), (Ids{5, 0}));
  EXPECT_EQ(Encode(*bpe, "aaaab"), (Ids{5, 0, 4}));
  EXPECT_EQ(Encode(*bpe, ""), Ids{});
  BpeOptions options;
  options.ignore_merges = true;
  EXPECT_EQ(Encode(*MakeBpe(ids, {{1, 2, 3}}, options), "abc"), (Ids{6}));
}

TEST(BpeTest, WhatHasNoToken) {
  const TokenIds ids = {{"a", 0},      {"?", 1},      {"\u00E9", 2},
                        {"<0xE2>", 3}, {"<0x82>", 4}, {"<0xAC>", 5}};
  BpeOptions options;
  EXPECT_EQ(Encode(*MakeBpe(ids, {}, options), "axa"), (Ids{0, 0}));
  options.unk = 1;
  EXPECT_EQ(Encode(*MakeBpe(ids, {}, options), "axya"), (Ids{0, 1, 1, 0}));
  options.fuse_unk = true;
  EXPECT_EQ(Encode(*MakeBpe(ids, {}, options), "axyaz"), (Ids{0, 1, 0, 1}));
  options.bytes = false;
  EXPECT_EQ(Encode(*MakeBpe(ids, {}, options), "\u00E9\u20ACa"), (Ids{2, 1, 0}));
  options.byte_fallback = true;
  EXPECT_EQ(Encode(*MakeBpe(ids, {}, options), "\u00E9\u20ACa\u4E2D"), (Ids{2, 3, 4, 5, 0, 1}));
}

// The definition, word for word.
Ids SlowEncode(const std::map<std::pair<int32_t, int32_t>, std::pair<int, int32_t>>& rules,
               Ids ids) {
  while (true) {
    int best = -1;
    size_t where = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      auto it = rules.find({ids[i], ids[i + 1]});
      if (it != rules.end() && (best < 0 || it->second.first < best)) {
        best = it->second.first;
        where = i;
      }
    }
    if (best < 0) return ids;
    ids[where] = rules.at({ids[where], ids[where + 1]}).second;
    ids.erase(ids.begin() + where + 1);
  }
}

TEST(BpeTest, EqualsTheDefinitionOnRandomMerges) {
  const Philox random(3);
  uint64_t draw = 0;
  for (int round = 0; round < 40; ++round) {
    std::vector<std::string> tokens = {"a", "b", "c"};
    TokenIds ids = {{"a", 0}, {"b", 1}, {"c", 2}};
    std::vector<BpeMerge> merges;
    std::map<std::pair<int32_t, int32_t>, std::pair<int, int32_t>> rules;
    while (merges.size() < 25) {
      const int32_t left = random.Below(draw++, tokens.size());
      const int32_t right = random.Below(draw++, tokens.size());
      if (rules.count({left, right})) continue;
      const std::string both = tokens[left] + tokens[right];
      const auto [it, is_new] = ids.try_emplace(both, tokens.size());
      if (is_new) tokens.push_back(both);
      rules[{left, right}] = {static_cast<int>(merges.size()), it->second};
      merges.push_back({left, right, it->second});
    }
    const auto bpe = MakeBpe(ids, merges, {});
    for (int i = 0; i < 50; ++i) {
      std::string text;
      Ids symbols;
      const int64_t length = random.Below(draw++, i < 45 ? 12 : 300);
      for (int64_t j = 0; j < length; ++j) {
        symbols.push_back(static_cast<int32_t>(random.Below(draw++, 3)));
        text += static_cast<char>('a' + symbols.back());
      }
      ASSERT_EQ(Encode(*bpe, text), SlowEncode(rules, symbols)) << text;
    }
  }
}

TEST(BpeTest, ALongPieceIsNotQuadratic) {
  const TokenIds ids = {{"a", 0}, {"aa", 1}, {"aaaa", 2}};
  const auto bpe = MakeBpe(ids, {{0, 0, 1}, {1, 1, 2}}, {});
  const Ids got = Encode(*bpe, std::string(1000003, 'a'));  // minutes, were it quadratic
  EXPECT_EQ(got.size(), 250002);
  EXPECT_EQ(got[250000], 1);
  EXPECT_EQ(got[250001], 0);
}

}  // namespace
}  // namespace residual
