#include "interp/report/html.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"

namespace residual {
namespace {

TEST(HtmlTest, TextIsEscapedOnceAndMarkupStays) {
  EXPECT_EQ(Html("a < b && \"c\" > 'd'").str(),
            "a &lt; b &amp;&amp; &quot;c&quot; &gt; &#39;d&#39;");
  EXPECT_EQ((Html("x") + Strong("<y>") + " & " + Emphasis("z")).str(),
            "x<strong>&lt;y&gt;</strong> &amp; <em>z</em>");
  EXPECT_EQ(Code(std::string("</script>")).str(), "<code>&lt;/script&gt;</code>");
  EXPECT_EQ(
      Link("https://arxiv.org/abs/2209.11895?a=1&b=\"", "p").str(),
      "<a href=\"https://arxiv.org/abs/2209.11895?a=1&amp;b=&quot;\" rel=\"noreferrer\">p</a>");
  EXPECT_DEATH(Link("javascript:alert(1)", "p"), "javascript");
}

TEST(HtmlTest, BytesThatAreNoTextAreReplaced) {
  EXPECT_EQ(Html(absl::string_view("a\0b\x07 é \xff\xc3", 10)).str(),
            "a\xEF\xBF\xBD"
            "b\xEF\xBF\xBD é \xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(Html("line\n\ttab").str(), "line\n\ttab");
  // Overlong forms, surrogates, beyond the last code point.
  EXPECT_EQ(ValidUtf8("\xC0\xAF"), "\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(ValidUtf8("\xED\xA0\x80").size(), 9);
  EXPECT_EQ(ValidUtf8("\xF4\x90\x80\x80").size(), 12);
  EXPECT_EQ(ValidUtf8("€ 𝄞"), "€ 𝄞");
}

TEST(HtmlTest, TokensAreVisible) {
  EXPECT_EQ(VisibleToken(" the"), " the");
  EXPECT_EQ(VisibleToken("\n\t\r"), "⏎⇥␍");
  EXPECT_EQ(VisibleToken("\xe2\x80"), "\\xe2\\x80");
  EXPECT_EQ(VisibleToken("é\x01"), "é\\x01");
}

TEST(HtmlTest, Numbers) {
  EXPECT_EQ(FormatNumber(3.14159, 2), "3.14");
  EXPECT_EQ(FormatNumber(-3.14159, 1), "−3.1");
  EXPECT_EQ(FormatNumber(-0.001, 2), "0.00");
  EXPECT_EQ(FormatNumber(std::nan(""), 2), "–");
}

TEST(HtmlTest, JsonCannotEndItsScript) {
  const std::string json = ScriptJson({{"a", "</script><!--"},
                                       {"b", std::numeric_limits<double>::quiet_NaN()},
                                       {"c", "\xff\xE2\x80\xA8"}});
  EXPECT_EQ(json.find('<'), std::string::npos);
  const auto back = nlohmann::json::parse(json);
  EXPECT_EQ(back["a"], "</script><!--");
  EXPECT_TRUE(back["b"].is_null());
  EXPECT_EQ(json.find("\xE2\x80\xA8"), std::string::npos);
}

}  // namespace
}  // namespace residual
