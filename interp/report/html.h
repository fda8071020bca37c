// Pieces of HTML that cannot be half escaped: text becomes Html only through a constructor that
// escapes it, and Html is joined only with Html.
//
//   Html line = Html("loss ") + Strong("1.9 < 2.1") + ".";   // loss <strong>1.9 &lt; 2.1</strong>.

#ifndef RESIDUAL_INTERP_REPORT_HTML_H_
#define RESIDUAL_INTERP_REPORT_HTML_H_

#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace residual {

class Html {
 public:
  Html() = default;
  // Plain text, escaped for content and for quoted attributes: & < > " '. Bytes that are no UTF-8
  // become U+FFFD, control characters but tab and newline too.
  Html(absl::string_view text);  // NOLINT: text is Html
  Html(const char* text) : Html(absl::string_view(text)) {}
  Html(const std::string& text) : Html(absl::string_view(text)) {}

  // Markup as it is, for the code that writes tags.
  static Html Markup(std::string markup) {
    Html html;
    html.markup_ = std::move(markup);
    return html;
  }

  const std::string& str() const { return markup_; }
  bool empty() const { return markup_.empty(); }
  Html& operator+=(const Html& other) {
    markup_ += other.markup_;
    return *this;
  }
  friend Html operator+(Html a, const Html& b) {
    a += b;
    return a;
  }

 private:
  std::string markup_;
};

Html Strong(const Html& content);
Html Emphasis(const Html& content);
Html Code(const Html& content);
Html Sub(const Html& content);
Html Sup(const Html& content);
// https only; CHECKs it. Opens nothing by itself: a page of ours loads nothing.
Html Link(absl::string_view url, const Html& content);

// "−3.08": a fixed number of decimals, a true minus sign, never "-0.00".
std::string FormatNumber(double x, int decimals);

// A token as a reader can see it: newline "⏎", tab "⇥", carriage return "␍", other control
// characters and bytes that are no UTF-8 as "\x8f". Spaces stay.
std::string VisibleToken(absl::string_view token);

// `text` with every byte sequence that is no UTF-8 replaced by U+FFFD.
std::string ValidUtf8(absl::string_view text);

// JSON that can stand in a <script> element: '<' as \u003c, so neither "</script" nor "<!--" can
// occur in it. NaN and infinities become null; strings must be UTF-8 (invalid bytes are replaced).
std::string ScriptJson(const nlohmann::json& value);

}  // namespace residual

#endif  // RESIDUAL_INTERP_REPORT_HTML_H_
