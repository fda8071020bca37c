// Rewriting a text before it is tokenized.

#ifndef RESIDUAL_MODELS_TEXT_PREPARE_NORMALIZER_H_
#define RESIDUAL_MODELS_TEXT_PREPARE_NORMALIZER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

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

// One after the other.
std::unique_ptr<Normalizer> MakeNormalizerSequence(
    std::vector<std::unique_ptr<Normalizer>> normalizers);

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_PREPARE_NORMALIZER_H_
