#include "interp/report/report.h"

#include <fstream>
#include <iterator>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "interp/report/plots.h"

namespace residual {
namespace {

constexpr char kHostile[] = "</script><script>alert('x')</script> & \"q\"";

size_t Count(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

Report HostileReport() {
  Report report(kHostile, kHostile);
  report.Paragraph(kHostile);
  report.Section(kHostile);
  report.Section("Second");
  report.List({kHostile});
  report.Figures({{kHostile, kHostile, kHostile}});
  report.AddTable(
      {kHostile, {{kHostile, false}, {kHostile}}, {{{kHostile}, {kHostile, 0.5, kHostile}}}});
  report.Plot(LinePlot({{kHostile, {1, 2}, {1, 2}}}, {}), kHostile, kHostile);
  TokenView view;
  view.caption = kHostile;
  view.tokens = {kHostile, "\xff\n"};
  view.heads = {{kHostile, kHostile, Tensor::Of<float>({2, 2}, {1, 0, 0.5, 0.5})}};
  view.selected = 9;
  report.Tokens(view);
  report.Footer(kHostile);
  return report;
}

TEST(ReportTest, NothingThatIsSaidBecomesMarkup) {
  const std::string page = HostileReport().ToString();
  EXPECT_EQ(Count(page, "alert('x')</script>"), 0);
  EXPECT_EQ(Count(page, "<script>alert"), 0);
  // Two data scripts, the library and the page's own.
  EXPECT_EQ(Count(page, "<script"), 4);
  EXPECT_EQ(Count(page, "</script>"), 4);
  EXPECT_NE(page.find("&lt;/script&gt;&lt;script&gt;alert(&#39;x&#39;)"), std::string::npos);
  EXPECT_NE(page.find("\\\\xff⏎"), std::string::npos);  // as JSON
}

TEST(ReportTest, LoadsNothing) {
  const std::string page = HostileReport().ToString();
  EXPECT_NE(page.find("default-src 'none'"), std::string::npos);
  for (const char* loads : {" src=", "@import", "url(", "http://cdn", "https://cdn"}) {
    // Vega's own text may name urls; the markup around it may not.
    const std::string markup = page.substr(0, page.find("Copyright (c) 2015"));
    EXPECT_EQ(markup.find(loads), std::string::npos) << loads;
  }
  EXPECT_EQ(page.find("src=\"https"), std::string::npos);
}

TEST(ReportTest, CarriesTheLibraryOnlyWherePlotsAre) {
  Report plain("Title", "Lead.");
  plain.Section("One");
  plain.Paragraph("Text.");
  const std::string page = plain.ToString();
  EXPECT_LT(page.size(), 20000);
  EXPECT_EQ(page.find("<script"), std::string::npos);
  EXPECT_EQ(page.find("<nav"), std::string::npos);  // one section needs no contents
  EXPECT_NE(page.find("<h2 id=\"section-1\">One</h2>"), std::string::npos);
  EXPECT_EQ(Count(page, "<section"), Count(page, "</section>"));
}

TEST(ReportTest, DataOfATokenView) {
  const std::string page = HostileReport().ToString();
  const size_t begin = page.rfind("<script type=\"application/json\">") + 32;
  const auto data =
      nlohmann::json::parse(page.substr(begin, page.find("</script>", begin) - begin));
  EXPECT_EQ(data["tokens"], nlohmann::json({kHostile, "\\xff⏎"}));
  EXPECT_EQ(data["selected"], 1);
  EXPECT_EQ(data["heads"][0]["name"], kHostile);
  std::string bytes;
  ASSERT_TRUE(absl::Base64Unescape(data["heads"][0]["pattern"].get<std::string>(), &bytes));
  EXPECT_EQ(bytes, "\xff\x80\x80");
}

TEST(ReportTest, LinesOfAPassageAreLines) {
  Report report("t", "l");
  TokenView view;
  view.tokens = {"a\n\n  b", "<br>"};
  view.heads = {{"h", "", Tensor::Of<float>({2, 2}, {1, 0, 0, 1})}};
  report.Tokens(view);
  const std::string page = report.ToString();
  EXPECT_NE(page.find(">a⏎<br>⏎<br>  b</span>"), std::string::npos);
  EXPECT_NE(page.find(">&lt;br&gt;</span>"), std::string::npos);
}

TEST(ReportTest, PatternsAreClampedToBytes) {
  std::string bytes;
  ASSERT_TRUE(absl::Base64Unescape(
      PackPattern(Tensor::Of<float>({2, 2}, {1.0000001f, 7, -0.1f, 0.25f})), &bytes));
  EXPECT_EQ(bytes, std::string("\xff\0\x40", 3));
  EXPECT_DEATH(PackPattern(Tensor::Zeros({2, 3})), "f32\\[2, 3\\]");
}

TEST(ReportTest, WritesTheFileWholeOrNotAtAll) {
  const std::string path = absl::StrCat(testing::TempDir(), "/report.html");
  const Report report = HostileReport();
  ASSERT_TRUE(report.Write(path).ok());
  std::ifstream file(path, std::ios::binary);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), report.ToString());
  const absl::Status failed = report.Write("/nowhere/at/all/report.html");
  EXPECT_FALSE(failed.ok());
  EXPECT_TRUE(absl::StrContains(failed.message(), "/nowhere/at/all/report.html"));
}

TEST(ReportTest, ShapesMustAgree) {
  Report report("t", "l");
  EXPECT_DEATH(report.AddTable({"", {{"a"}, {"b"}}, {{{"x"}}}}), "cells of a row");
  TokenView view;
  view.tokens = {"a", "b", "c"};
  view.heads = {{"h", "", Tensor::Zeros({2, 2})}};
  EXPECT_DEATH(report.Tokens(view), "for 3 tokens");
}

}  // namespace
}  // namespace residual
