// Rewriting a text before it is tokenized.

#ifndef RESIDUAL_MODELS_TEXT_PREPARE_NORMALIZER_H_
#define RESIDUAL_MODELS_TEXT_PREPARE_NORMALIZER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "models/text/prepare/regex.h"

namespace residual {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual std::string Normalize(absl::string_view text) const = 0;
};

// Unicode's normal forms, of Unicode 15: characters composed (C) or taken apart (D); KC and KD also
// replace compatibility characters ("ﬁ" -> "fi"). Bytes that are no UTF-8 stay as they are.
enum class NormalForm { kC, kD, kKC, kKD };
std::unique_ptr<Normalizer> MakeNormalForm(NormalForm form);

// `prefix` before every text that is not empty.
std::unique_ptr<Normalizer> MakePrepend(std::string prefix);

// `content` in place of every match. `pattern` is not empty.
std::unique_ptr<Normalizer> MakeReplace(std::string pattern, std::string content);
std::unique_ptr<Normalizer> MakeReplace(std::unique_ptr<Regex> pattern, std::string content);

// Without white space at the ends.
std::unique_ptr<Normalizer> MakeStrip(bool left, bool right);

std::unique_ptr<Normalizer> MakeLowercase();

// Without marks: of a text in normal form D, without accents.
std::unique_ptr<Normalizer> MakeStripAccents();

// Kinds of white space become spaces, controls go (SentencePiece's "nmt").
std::unique_ptr<Normalizer> MakeNmt();

// BERT's (Devlin et al. 2019): controls go and other white space becomes spaces; spaces around
// Chinese characters; no accents; lower case. (`tokenizers` has Unicode 7's classes here, we have
// those of Unicode 15: they differ in characters that came between.)
struct BertNormalizerOptions {
  bool clean_text = true;
  bool handle_chinese_chars = true;
  bool strip_accents = true;
  bool lowercase = true;
};
std::unique_ptr<Normalizer> MakeBertNormalizer(const BertNormalizerOptions& options);

// One after the other.
std::unique_ptr<Normalizer> MakeNormalizerSequence(
    std::vector<std::unique_ptr<Normalizer>> normalizers);

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_PREPARE_NORMALIZER_H_
