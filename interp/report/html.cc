#include "interp/report/html.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "tensor/base/check.h"

namespace residual {
namespace {

constexpr char kReplacement[] = "\xEF\xBF\xBD";  // U+FFFD

// Length of the UTF-8 character at the start of `text` (RFC 3629: no overlong forms, no surrogates,
// at most U+10FFFF), or 0 if there is none.
size_t CharacterLength(absl::string_view text) {
  auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xC2 && lead <= 0xDF   ? 2
                        : lead >= 0xE0 && lead <= 0xEF ? 3
                        : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                       : 0;
  if (length == 0 || text.size() < length) return 0;
  const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (byte(1) < low || byte(1) > high) return 0;
  for (size_t i = 2; i < length; ++i) {
    if (byte(i) < 0x80 || byte(i) > 0xBF) return 0;
  }
  return length;
}

// Calls character(view) for each UTF-8 character and invalid(byte) for each byte that is in none.
template <class Character, class Invalid>
void ForEachCharacter(absl::string_view text, Character character, Invalid invalid) {
  for (size_t i = 0; i < text.size();) {
    const size_t length = CharacterLength(text.substr(i));
    if (length == 0) {
      invalid(static_cast<uint8_t>(text[i]));
      ++i;
    } else {
      character(text.substr(i, length));
      i += length;
    }
  }
}

bool IsControl(absl::string_view character) {
  const uint8_t lead = static_cast<uint8_t>(character[0]);
  if (character.size() == 1) return lead < 0x20 || lead == 0x7F;
  return lead == 0xC2 && static_cast<uint8_t>(character[1]) < 0xA0;  // U+0080 to U+009F
}

std::string Hex(uint8_t byte) { return absl::StrFormat("\\x%02x", byte); }

Html Tag(const char* tag, const Html& content) {
  return Html::Markup(absl::StrCat("<", tag, ">", content.str(), "</", tag, ">"));
}

}  // namespace

Html::Html(absl::string_view text) {
  ForEachCharacter(
      text,
      [&](absl::string_view c) {
        if (c == "&") {
          markup_ += "&amp;";
        } else if (c == "<") {
          markup_ += "&lt;";
        } else if (c == ">") {
          markup_ += "&gt;";
        } else if (c == "\"") {
          markup_ += "&quot;";
        } else if (c == "'") {
          markup_ += "&#39;";
        } else if (IsControl(c) && c != "\n" && c != "\t") {
          markup_ += kReplacement;
        } else {
          absl::StrAppend(&markup_, c);
        }
      },
      [&](uint8_t) { markup_ += kReplacement; });
}

Html Strong(const Html& content) { return Tag("strong", content); }
Html Emphasis(const Html& content) { return Tag("em", content); }
Html Code(const Html& content) { return Tag("code", content); }
Html Sub(const Html& content) { return Tag("sub", content); }
Html Sup(const Html& content) { return Tag("sup", content); }

Html Link(absl::string_view url, const Html& content) {
  RESIDUAL_CHECK(absl::StartsWith(url, "https://")) << std::string(url);
  return Html::Markup(
      absl::StrCat("<a href=\"", Html(url).str(), "\" rel=\"noreferrer\">", content.str(), "</a>"));
}

std::string FormatNumber(double x, int decimals) {
  if (std::isnan(x)) return "–";
  std::string text = absl::StrFormat("%.*f", decimals, std::abs(x));
  const bool zero = text.find_first_not_of("0.") == std::string::npos;
  return x < 0 && !zero ? absl::StrCat("−", text) : text;
}

std::string VisibleToken(absl::string_view token) {
  std::string visible;
  ForEachCharacter(
      token,
      [&](absl::string_view c) {
        if (c == "\n") {
          visible += "⏎";
        } else if (c == "\t") {
          visible += "⇥";
        } else if (c == "\r") {
          visible += "␍";
        } else if (IsControl(c)) {
          for (char byte : c) visible += Hex(static_cast<uint8_t>(byte));
        } else {
          absl::StrAppend(&visible, c);
        }
      },
      [&](uint8_t byte) { visible += Hex(byte); });
  return visible;
}

std::string ValidUtf8(absl::string_view text) {
  std::string valid;
  ForEachCharacter(
      text, [&](absl::string_view c) { absl::StrAppend(&valid, c); },
      [&](uint8_t) { valid += kReplacement; });
  return valid;
}

std::string ScriptJson(const nlohmann::json& value) {
  const std::string text = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  // '<' occurs only within strings.
  return absl::StrReplaceAll(
      text, {{"<", "\\u003c"}, {"\xE2\x80\xA8", "\\u2028"}, {"\xE2\x80\xA9", "\\u2029"}});
}

}  // namespace residual
