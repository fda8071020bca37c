#include "models/text/prepare/added_tokens.h"

#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace residual {
namespace {

using Parts = std::vector<std::pair<std::string, int32_t>>;  // -1: text

Parts Split(const std::vector<AddedToken>& tokens, const std::string& text) {
  Parts parts;
  AddedTokenFinder(tokens).Split(text, [&](absl::string_view part, std::optional<int32_t> id) {
    parts.emplace_back(std::string(part), id.value_or(-1));
  });
  return parts;
}

AddedToken Token(int32_t id, const std::string& content) {
  AddedToken token;
  token.id = id;
  token.content = content;
  return token;
}

TEST(AddedTokensTest, FindsTheLongestFromTheLeft) {
  const std::vector<AddedToken> tokens = {Token(1, "<a>"), Token(2, "<a><b>"), Token(3, "  "),
                                          Token(4, "    ")};
  EXPECT_EQ(Split(tokens, ""), Parts{});
  EXPECT_EQ(Split(tokens, "x"), (Parts{{"x", -1}}));
  EXPECT_EQ(Split(tokens, "x<a>y"), (Parts{{"x", -1}, {"<a>", 1}, {"y", -1}}));
  EXPECT_EQ(Split(tokens, "<a><b><a>"), (Parts{{"<a><b>", 2}, {"<a>", 1}}));
  EXPECT_EQ(Split(tokens, "<a><c"), (Parts{{"<a>", 1}, {"<c", -1}}));
  EXPECT_EQ(Split(tokens, "       "), (Parts{{"    ", 4}, {"  ", 3}, {" ", -1}}));
  EXPECT_EQ(Split({}, "<a>"), (Parts{{"<a>", -1}}));
}

TEST(AddedTokensTest, Strips) {
  AddedToken left = Token(1, "<l>"), right = Token(2, "<r>");
  left.left_strip = right.right_strip = true;
  EXPECT_EQ(Split({left, right}, "a \u00A0<l> b"),
            (Parts{{"a", -1}, {" \u00A0<l>", 1}, {" b", -1}}));
  EXPECT_EQ(Split({left, right}, "a <r> \n b"), (Parts{{"a ", -1}, {"<r> \n ", 2}, {"b", -1}}));
  // Both want the same space: the first has it.
  EXPECT_EQ(Split({left, right}, "<r>  <l>"), (Parts{{"<r>  ", 2}, {"<l>", 1}}));
  // A token within the space that was taken is gone.
  EXPECT_EQ(Split({right, Token(3, "  ")}, "<r>  x"), (Parts{{"<r>  ", 2}, {"x", -1}}));
}

TEST(AddedTokensTest, SingleWord) {
  AddedToken word = Token(1, "cat");
  word.single_word = true;
  EXPECT_EQ(Split({word}, "cat a cat, cats \u00E9cat"),
            (Parts{{"cat", 1}, {" a ", -1}, {"cat", 1}, {", cats \u00E9cat", -1}}));
}

}  // namespace
}  // namespace residual
