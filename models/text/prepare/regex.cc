#include "models/text/prepare/regex.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "models/text/prepare/unicode.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include "pcre2.h"

namespace residual {

struct Regex::Code {
  pcre2_code* code = nullptr;
  pcre2_match_context* limits = nullptr;

  ~Code() {
    pcre2_match_context_free(limits);
    pcre2_code_free(code);
  }
};

namespace {

// PCRE2's \w has no marks, and its \s has U+180E, which is no white space any more.
std::string WithOurClasses(const std::string& pattern) {
  constexpr char kWord[] = "\\p{L}\\p{M}\\p{Nd}\\p{Pc}", kSpace[] = "\\p{White_Space}";
  std::string result;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c != '\\' || i + 1 == pattern.size()) {
      if (c == '[') in_class = true;
      if (c == ']') in_class = false;
      result += c;
    } else if (const char next = pattern[++i]; next == 'w') {
      absl::StrAppend(&result, in_class ? "" : "[", kWord, in_class ? "" : "]");
    } else if (next == 'W' && !in_class) {
      absl::StrAppend(&result, "[^", kWord, "]");
    } else if (next == 's') {
      result += kSpace;
    } else if (next == 'S') {
      result += "\\P{White_Space}";
    } else {
      result.append({c, next});
    }
  }
  return result;
}

}  // namespace

Regex::Regex(std::unique_ptr<Code> code) : code_(std::move(code)) {}
Regex::~Regex() = default;

absl::StatusOr<std::unique_ptr<Regex>> Regex::Compile(const std::string& pattern) {
  auto code = std::make_unique<Code>();
  int error = 0;
  PCRE2_SIZE at = 0;
  const std::string ours = WithOurClasses(pattern);
  code->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(ours.data()), ours.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C,
                    &error, &at, nullptr);
  if (code->code == nullptr) {
    PCRE2_UCHAR message[256] = {};
    pcre2_get_error_message(error, message, sizeof(message));
    return absl::InvalidArgumentError(
        absl::StrCat(reinterpret_cast<const char*>(message), " at byte ", at));
  }
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);  // without it: slower
  code->limits = pcre2_match_context_create(nullptr);
  pcre2_set_match_limit(code->limits, 10'000'000);
  return std::unique_ptr<Regex>(new Regex(std::move(code)));
}

void Regex::FindAll(absl::string_view text, absl::FunctionRef<void(size_t, size_t)> match) const {
  std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> data(
      pcre2_match_data_create_from_pattern(code_->code, nullptr), pcre2_match_data_free);
  const auto* bytes = reinterpret_cast<PCRE2_SPTR>(text.data());
  for (size_t from = 0; from <= text.size();) {
    if (pcre2_match(code_->code, bytes, text.size(), from, 0, data.get(), code_->limits) < 0)
      return;
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data.get());
    if (ends[1] < ends[0]) return;  // \K in a look-ahead
    match(ends[0], ends[1]);
    from = ends[1];
    if (ends[0] == ends[1]) {  // an empty match: on by a character
      if (from == text.size()) return;
      from += FirstCharacter(text.substr(from)).length;
    }
  }
}

}  // namespace residual
