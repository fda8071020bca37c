// Regular expressions (PCRE2) over UTF-8, with Unicode's classes in \s, \d, \w (letters, marks,
// decimal digits and connectors, as in Oniguruma, for which tokenizers are written) and \p{..}.
//
// The time of a search is bounded: backtracking ends after ten million steps, and then there is no
// match, so that no pattern of a hostile file makes a text hang.

#ifndef RESIDUAL_MODELS_TEXT_PREPARE_REGEX_H_
#define RESIDUAL_MODELS_TEXT_PREPARE_REGEX_H_

#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace residual {

class Regex {
 public:
  // InvalidArgument says what is wrong with the pattern, and where.
  static absl::StatusOr<std::unique_ptr<Regex>> Compile(const std::string& pattern);
  ~Regex();

  // Calls `match` with the begin and the end of every match, from the left; none overlap. Bytes
  // that are no UTF-8 match nothing.
  void FindAll(absl::string_view text, absl::FunctionRef<void(size_t, size_t)> match) const;

 private:
  struct Code;
  explicit Regex(std::unique_ptr<Code> code);

  std::unique_ptr<Code> code_;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_PREPARE_REGEX_H_
