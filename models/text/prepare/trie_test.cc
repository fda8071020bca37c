#include "models/text/prepare/trie.h"

#include <string>
#include <utility>

#include "gtest/gtest.h"

namespace residual {
namespace {

using Found = std::vector<std::pair<size_t, int32_t>>;

Found Prefixes(const TokenTrie& trie, const std::string& text) {
  Found found;
  trie.ForEachPrefix(text, [&](size_t length, int32_t id) { found.push_back({length, id}); });
  return found;
}

TEST(TokenTrieTest, FindsEveryTokenThatATextBeginsWith) {
  TokenTrie trie;
  trie.Add("a", 7);
  trie.Add("abc", 8);
  trie.Add("b\xFF", 9);
  trie.Add("", 10);
  EXPECT_EQ(Prefixes(trie, "abcd"), (Found{{1, 7}, {3, 8}}));
  EXPECT_EQ(Prefixes(trie, "ab"), (Found{{1, 7}}));
  EXPECT_EQ(Prefixes(trie, "b\xFF"), (Found{{2, 9}}));
  EXPECT_EQ(Prefixes(trie, "b"), Found{});
  EXPECT_EQ(Prefixes(trie, ""), Found{});
  trie.Add("a", 11);
  EXPECT_EQ(Prefixes(trie, "a"), (Found{{1, 11}}));
}

}  // namespace
}  // namespace residual
