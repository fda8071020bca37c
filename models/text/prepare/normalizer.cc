#include "models/text/prepare/normalizer.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "models/text/prepare/unicode.h"
#include "tensor/base/check.h"
#include "utf8proc.h"

namespace residual {
namespace {

class NormalFormNormalizer : public Normalizer {
 public:
  explicit NormalFormNormalizer(NormalForm form) {
    const bool compose = form == NormalForm::kC || form == NormalForm::kKC;
    const bool compatible = form == NormalForm::kKC || form == NormalForm::kKD;
    options_ = UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
               (compatible ? UTF8PROC_COMPAT : 0);
  }

  // ASCII does not change but for what a mark after it makes of it, so only runs of other
  // characters, with the one before, go to the library.
  std::string Normalize(absl::string_view text) const override {
    std::string result;
    result.reserve(text.size());
    size_t done = 0;
    for (size_t i = 0; i < text.size();) {
      const Character c = FirstCharacter(text.substr(i));
      if (c.code_point >= 0 && c.code_point < 0x80) {
        ++i;
        continue;
      }
      const size_t begin = i > done ? i - 1 : i;
      while (i < text.size()) {
        const Character next = FirstCharacter(text.substr(i));
        if (next.code_point < 0x80) break;  // ASCII, or no UTF-8
        i += next.length;
      }
      result.append(text.data() + done, begin - done);
      Append(text.substr(begin, i - begin), &result);
      done = i;
      if (i < text.size()) {  // what ended the run begins no other
        const Character next = FirstCharacter(text.substr(i));
        if (next.code_point < 0) {
          result.append(text.data() + i, next.length);
          done = i += next.length;
        }
      }
    }
    result.append(text.data() + done, text.size() - done);
    return result;
  }

 private:
  void Append(absl::string_view valid, std::string* result) const {
    if (valid.empty()) return;
    utf8proc_uint8_t* mapped = nullptr;
    const utf8proc_ssize_t length =
        utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(valid.data()),
                     static_cast<utf8proc_ssize_t>(valid.size()), &mapped,
                     static_cast<utf8proc_option_t>(options_));
    RESIDUAL_CHECK(length >= 0) << utf8proc_errmsg(length);
    result->append(reinterpret_cast<const char*>(mapped), length);
    std::free(mapped);
  }

  int options_;
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  std::string Normalize(absl::string_view text) const override {
    return text.empty() ? "" : absl::StrCat(prefix_, text);
  }

 private:
  std::string prefix_;
};

class ReplaceString : public Normalizer {
 public:
  ReplaceString(std::string pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  std::string Normalize(absl::string_view text) const override {
    return absl::StrReplaceAll(text, {{pattern_, content_}});
  }

 private:
  std::string pattern_, content_;
};

class ReplaceRegex : public Normalizer {
 public:
  ReplaceRegex(std::unique_ptr<Regex> pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  std::string Normalize(absl::string_view text) const override {
    std::string result;
    size_t done = 0;
    pattern_->FindAll(text, [&](size_t begin, size_t end) {
      absl::StrAppend(&result, text.substr(done, begin - done), content_);
      done = end;
    });
    absl::StrAppend(&result, text.substr(done));
    return result;
  }

 private:
  std::unique_ptr<Regex> pattern_;
  std::string content_;
};

// Rewrites a text character by character: f(code point, its bytes, &result). Bytes that are no
// UTF-8 have the code point -1.
template <class F>
class ByCharacter : public Normalizer {
 public:
  explicit ByCharacter(F f) : f_(std::move(f)) {}
  std::string Normalize(absl::string_view text) const override {
    std::string result;
    result.reserve(text.size());
    while (!text.empty()) {
      const Character c = FirstCharacter(text);
      f_(c.code_point, text.substr(0, c.length), &result);
      text.remove_prefix(c.length);
    }
    return result;
  }

 private:
  F f_;
};

template <class F>
std::unique_ptr<Normalizer> MakeByCharacter(F f) {
  return std::make_unique<ByCharacter<F>>(std::move(f));
}

class Strip : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  std::string Normalize(absl::string_view text) const override {
    size_t begin = text.size(), end = 0;  // of what is no white space
    for (size_t i = 0; i < text.size();) {
      const Character c = FirstCharacter(text.substr(i));
      if (ClassOf(c.code_point) != CharClass::kSpace) {
        begin = std::min(begin, i);
        end = i + c.length;
      }
      i += c.length;
    }
    if (begin >= end) return left_ || right_ ? "" : std::string(text);
    if (!left_) begin = 0;
    if (!right_) end = text.size();
    return std::string(text.substr(begin, end - begin));
  }

 private:
  bool left_, right_;
};

bool IsChinese(int32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

void AppendCleaned(int32_t c, absl::string_view bytes, std::string* result) {
  const bool ascii_space = c == '\t' || c == '\n' || c == '\r';
  if (c == 0xFFFD || (IsControl(c) && !ascii_space)) return;
  absl::StrAppend(result, ClassOf(c) == CharClass::kSpace ? " " : bytes);
}

void AppendUnlessNonspacing(int32_t c, absl::string_view bytes, std::string* result) {
  if (!IsNonspacingMark(c)) absl::StrAppend(result, bytes);
}

void AppendSpaced(int32_t c, absl::string_view bytes, std::string* result) {
  const bool chinese = IsChinese(c);
  absl::StrAppend(result, chinese ? " " : "", bytes, chinese ? " " : "");
}

void AppendLowered(int32_t c, absl::string_view bytes, std::string* result) {
  if (c < 0) {
    absl::StrAppend(result, bytes);
  } else {
    AppendLowercase(c, result);
  }
}

class NormalizerSequence : public Normalizer {
 public:
  explicit NormalizerSequence(std::vector<std::unique_ptr<Normalizer>> normalizers)
      : normalizers_(std::move(normalizers)) {}

  std::string Normalize(absl::string_view text) const override {
    std::string result(text);
    for (const auto& normalizer : normalizers_) result = normalizer->Normalize(result);
    return result;
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> normalizers_;
};

// ASCII by a table; it takes part in none of the other steps.
class Bert : public Normalizer {
 public:
  explicit Bert(const BertNormalizerOptions& options) {
    std::vector<std::unique_ptr<Normalizer>> steps;
    if (options.clean_text) steps.push_back(MakeByCharacter(AppendCleaned));
    if (options.handle_chinese_chars) steps.push_back(MakeByCharacter(AppendSpaced));
    if (options.strip_accents) {
      steps.push_back(MakeNormalForm(NormalForm::kD));
      steps.push_back(MakeByCharacter(AppendUnlessNonspacing));
    }
    if (options.lowercase) steps.push_back(MakeByCharacter(AppendLowered));
    steps_ = MakeNormalizerSequence(std::move(steps));
    for (int c = 0; c < 128; ++c)
      ascii_[c] = steps_->Normalize(std::string(1, static_cast<char>(c)));
  }

  std::string Normalize(absl::string_view text) const override {
    std::string result;
    result.reserve(text.size());
    for (size_t i = 0; i < text.size();) {
      const size_t begin = i;
      while (i < text.size() && static_cast<uint8_t>(text[i]) >= 0x80) ++i;
      if (i > begin) result += steps_->Normalize(text.substr(begin, i - begin));
      for (; i < text.size() && static_cast<uint8_t>(text[i]) < 0x80; ++i) {
        const std::string& to = ascii_[static_cast<uint8_t>(text[i])];
        if (!to.empty()) result.push_back(to[0]);
      }
    }
    return result;
  }

 private:
  std::unique_ptr<Normalizer> steps_;
  std::string ascii_[128];  // one character, or none
};

}  // namespace

std::unique_ptr<Normalizer> MakeNormalForm(NormalForm form) {
  return std::make_unique<NormalFormNormalizer>(form);
}

std::unique_ptr<Normalizer> MakePrepend(std::string prefix) {
  return std::make_unique<Prepend>(std::move(prefix));
}

std::unique_ptr<Normalizer> MakeReplace(std::string pattern, std::string content) {
  return std::make_unique<ReplaceString>(std::move(pattern), std::move(content));
}

std::unique_ptr<Normalizer> MakeReplace(std::unique_ptr<Regex> pattern, std::string content) {
  return std::make_unique<ReplaceRegex>(std::move(pattern), std::move(content));
}

std::unique_ptr<Normalizer> MakeStrip(bool left, bool right) {
  return std::make_unique<Strip>(left, right);
}

std::unique_ptr<Normalizer> MakeLowercase() { return MakeByCharacter(AppendLowered); }

std::unique_ptr<Normalizer> MakeStripAccents() {
  return MakeByCharacter([](int32_t c, absl::string_view bytes, std::string* result) {
    if (!IsMark(c)) absl::StrAppend(result, bytes);
  });
}

std::unique_ptr<Normalizer> MakeNmt() {
  return MakeByCharacter([](int32_t c, absl::string_view bytes, std::string* result) {
    const bool space = c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 ||
                       (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                       c == 0xFEFF || c == 0xFFFD;
    const bool dropped = (c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) ||
                         c == 0x7F || c == 0x8F || c == 0x9F;
    if (space) {
      result->push_back(' ');
    } else if (!dropped) {
      absl::StrAppend(result, bytes);
    }
  });
}

std::unique_ptr<Normalizer> MakeBertNormalizer(const BertNormalizerOptions& options) {
  return std::make_unique<Bert>(options);
}

std::unique_ptr<Normalizer> MakeNormalizerSequence(
    std::vector<std::unique_ptr<Normalizer>> normalizers) {
  return std::make_unique<NormalizerSequence>(std::move(normalizers));
}

}  // namespace residual
