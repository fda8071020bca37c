#include "models/text/prepare/normalizer.h"

#include <cstdlib>
#include <utility>

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

}  // namespace

std::unique_ptr<Normalizer> MakeNormalForm(NormalForm form) {
  return std::make_unique<NormalFormNormalizer>(form);
}

std::unique_ptr<Normalizer> MakeNormalizerSequence(
    std::vector<std::unique_ptr<Normalizer>> normalizers) {
  return std::make_unique<NormalizerSequence>(std::move(normalizers));
}

}  // namespace residual
