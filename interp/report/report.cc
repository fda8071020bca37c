#include "interp/report/report.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "interp/report/page_assets.h"
#include "tensor/base/check.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

// 'none' but for what is in the page itself. Vega compiles its expressions, hence unsafe-eval.
constexpr char kPolicy[] =
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'";

std::string DataScript(const nlohmann::json& value) {
  return absl::StrCat("<script type=\"application/json\">", ScriptJson(value), "</script>\n");
}

std::string Caption(const Html& caption) {
  return caption.empty() ? "" : absl::StrCat("<figcaption>", caption.str(), "</figcaption>\n");
}

}  // namespace

std::string PackPattern(const Tensor& pattern) {
  RESIDUAL_CHECK(pattern.rank() == 2 && pattern.dim(0) == pattern.dim(1)) << pattern.ToString();
  const int64_t n = pattern.dim(0);
  const std::vector<double> values = pattern.ToDoubles();
  std::string bytes;
  for (int64_t query = 0; query < n; ++query) {
    for (int64_t key = 0; key <= query; ++key) {
      const double weight = std::min(1.0, std::max(0.0, values[query * n + key]));
      bytes.push_back(static_cast<char>(std::lround(255 * weight)));
    }
  }
  return absl::Base64Escape(bytes);
}

Report::Report(std::string title, Html lead)
    : title_(std::move(title)), body_("<section>\n"), lead_(std::move(lead)) {}

void Report::Section(const Html& title) {
  const std::string id = absl::StrCat("section-", sections_.size() + 1);
  absl::StrAppend(&body_, "</section>\n<section aria-labelledby=\"", id, "\">\n<h2 id=\"", id,
                  "\">", title.str(), "</h2>\n");
  sections_.push_back({title, id});
}

void Report::Paragraph(const Html& text) { absl::StrAppend(&body_, "<p>", text.str(), "</p>\n"); }

void Report::List(const std::vector<Html>& items) {
  absl::StrAppend(&body_, "<ul>\n");
  for (const Html& item : items) absl::StrAppend(&body_, "<li>", item.str(), "</li>\n");
  absl::StrAppend(&body_, "</ul>\n");
}

void Report::Figures(const std::vector<KeyFigure>& figures) {
  absl::StrAppend(&body_, "<dl class=\"figures\">\n");
  for (const KeyFigure& figure : figures) {
    absl::StrAppend(&body_, "<div><dt>", figure.label.str(), "</dt><dd class=\"value\">",
                    Html(figure.value).str(), "</dd><dd class=\"note\">", figure.note.str(),
                    "</dd></div>\n");
  }
  absl::StrAppend(&body_, "</dl>\n");
}

void Report::AddTable(const Table& table) {
  absl::StrAppend(&body_,
                  "<figure class=\"table\"><div class=\"scroll\" tabindex=\"0\">\n<table>\n",
                  "<thead><tr>");
  for (const Table::Column& column : table.columns) {
    absl::StrAppend(&body_, "<th scope=\"col\"", column.number ? " class=\"number\"" : "", ">",
                    column.title.str(), "</th>");
  }
  absl::StrAppend(&body_, "</tr></thead>\n<tbody>\n");
  for (const std::vector<TableCell>& row : table.rows) {
    RESIDUAL_CHECK_EQ(row.size(), table.columns.size()) << "cells of a row, columns";
    absl::StrAppend(&body_, "<tr>");
    for (size_t i = 0; i < row.size(); ++i) {
      const char* tag = i == 0 ? "th" : "td";
      absl::StrAppend(&body_, "<", tag, i == 0 ? " scope=\"row\"" : "",
                      table.columns[i].number ? " class=\"number\"" : "");
      if (row[i].shade >= 0) {
        absl::StrAppendFormat(&body_, " style=\"--shade:%.2f\"", std::min(1.0, row[i].shade));
      }
      if (!row[i].note.empty()) {
        absl::StrAppend(&body_, " title=\"", Html(row[i].note).str(), "\"");
      }
      absl::StrAppend(&body_, ">", row[i].content.str(), "</", tag, ">");
    }
    absl::StrAppend(&body_, "</tr>\n");
  }
  absl::StrAppend(&body_, "</tbody>\n</table></div>\n", Caption(table.caption), "</figure>\n");
}

void Report::Plot(const nlohmann::json& spec, const Html& caption, const std::string& description,
                  bool narrow) {
  absl::StrAppend(&body_, "<figure class=\"plot", narrow ? " narrow" : "", "\" id=\"plot-",
                  ++plots_, "\">\n<div class=\"vega\" role=\"img\" aria-label=\"",
                  Html(description).str(), "\"></div>\n", Caption(caption), DataScript(spec),
                  "</figure>\n");
}

void Report::Tokens(const TokenView& view) {
  const int64_t n = static_cast<int64_t>(view.tokens.size());
  nlohmann::json data = {{"selected", std::min(view.selected, n - 1)},
                         {"tokens", nlohmann::json::array()},
                         {"heads", nlohmann::json::array()}};
  const std::string id = absl::StrCat("tokens-", ++views_);
  absl::StrAppend(&body_, "<figure class=\"tokens\" id=\"", id,
                  "\">\n<div class=\"heads\" role=\"radiogroup\" aria-label=\"Head\"></div>\n",
                  "<div class=\"view\"><div class=\"text\"><div class=\"strip\" role=\"listbox\" "
                  "aria-label=\"Tokens\">");
  for (int64_t i = 0; i < n; ++i) {
    data["tokens"].push_back(VisibleToken(view.tokens[i]));
    // A line of the passage is a line of the picture.
    std::vector<std::string> lines;
    for (absl::string_view line : absl::StrSplit(view.tokens[i], '\n')) {
      lines.push_back(Html(VisibleToken(line)).str());
    }
    absl::StrAppend(&body_, "<span role=\"option\" aria-selected=\"false\" tabindex=\"-1\">",
                    absl::StrJoin(lines, absl::StrCat(VisibleToken("\n"), "<br>")), "</span>");
  }
  absl::StrAppend(&body_, "</div>\n<p class=\"readout\" aria-live=\"polite\"></p></div>\n",
                  "<canvas role=\"img\" aria-label=\"The head's attention pattern: queries from "
                  "top to bottom, keys from left to right\"></canvas></div>\n");
  for (const TokenView::Head& head : view.heads) {
    RESIDUAL_CHECK(head.pattern.shape() == Shape({n, n}))
        << head.pattern.ToString() << " for " << n << " tokens";
    data["heads"].push_back(
        {{"name", head.name}, {"note", head.note}, {"pattern", PackPattern(head.pattern)}});
  }
  absl::StrAppend(&body_, Caption(view.caption), DataScript(data), "</figure>\n");
}

std::string Report::ToString() const {
  std::string contents;
  for (const Entry& section : sections_) {
    absl::StrAppend(&contents, "<li><a href=\"#", section.id, "\">", section.title.str(),
                    "</a></li>\n");
  }
  return absl::StrCat(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
      "<meta name=\"color-scheme\" content=\"light dark\">\n",
      "<meta http-equiv=\"Content-Security-Policy\" content=\"", kPolicy, "\">\n<title>",
      Html(title_).str(), "</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>\n", PageCss(),
      "</style>\n</head>\n<body>\n<header>\n<h1>", Html(title_).str(), "</h1>\n<p class=\"lead\">",
      lead_.str(), "</p>\n</header>\n",
      sections_.size() > 1
          ? absl::StrCat("<nav aria-label=\"Contents\"><ol>\n", contents, "</ol></nav>\n")
          : "",
      "<main>\n", body_, "</section>\n</main>\n",
      footer_.empty() ? "" : absl::StrCat("<footer>", footer_.str(), "</footer>\n"),
      "<noscript>The plots of this page are drawn by a script inside it.</noscript>\n",
      // Only pages that plot carry the library.
      plots_ > 0 ? absl::StrCat("<script>\n", VegaBundle(), "</script>\n") : "",
      plots_ + views_ > 0 ? absl::StrCat("<script>\n", PageScript(), "</script>\n") : "",
      "</body>\n</html>\n");
}

absl::Status Report::Write(const std::string& path) const {
  return WriteFileAtomically(path, ToString());
}

}  // namespace residual
