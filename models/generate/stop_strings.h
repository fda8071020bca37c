// Ending a text at one of several strings, while it is being made.

#ifndef RESIDUAL_MODELS_GENERATE_STOP_STRINGS_H_
#define RESIDUAL_MODELS_GENERATE_STOP_STRINGS_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace residual {

// The text ends before the string that is completed first; of two completed at the same character,
// before the longer. What comes in which part makes no difference.
class StopStrings {
 public:
  // None of them empty.
  explicit StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {}

  // Takes the next part of the text; returns what can be shown now. The end of it is held back
  // where it may be the start of a stop string. Nothing after one has been found.
  std::string Add(absl::string_view part);

  // What was held back, when the text ends by itself.
  std::string Finish();

  bool found() const { return found_; }

 private:
  std::vector<std::string> strings_;
  std::string held_back_;
  bool found_ = false;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_GENERATE_STOP_STRINGS_H_
