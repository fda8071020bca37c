// The names nearest to a mistyped one, for error messages.

#ifndef RESIDUAL_MODELS_NN_NEAREST_H_
#define RESIDUAL_MODELS_NN_NEAREST_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace residual {

// Levenshtein distance: insertions, deletions and replacements of one character.
int EditDistance(absl::string_view a, absl::string_view b);

// Up to `count` of the names, nearest first, none further than half of `name`'s length.
std::vector<std::string> NearestNames(absl::string_view name, const std::vector<std::string>& names,
                                      int count = 3);

// "; did you mean 'hook_q', 'hook_k'?", or "" when nothing is near.
std::string DidYouMean(absl::string_view name, const std::vector<std::string>& names);

}  // namespace residual

#endif  // RESIDUAL_MODELS_NN_NEAREST_H_
