#include "models/generate/stop_strings.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"

namespace residual {

std::string StopStrings::Add(absl::string_view part) {
  if (found_) return "";
  held_back_.append(part.data(), part.size());
  size_t begin = std::string::npos, end = std::string::npos;
  for (const std::string& string : strings_) {
    const size_t at = held_back_.find(string);
    if (at == std::string::npos) continue;
    const size_t after = at + string.size();
    if (after < end || (after == end && at < begin)) {
      begin = at;
      end = after;
    }
  }
  if (begin != std::string::npos) {
    found_ = true;
    held_back_.resize(begin);
    return std::exchange(held_back_, "");
  }
  size_t keep = 0;  // the longest end of the text that a stop string begins with
  for (const std::string& string : strings_) {
    for (size_t n = std::min(string.size() - 1, held_back_.size()); n > keep; --n) {
      if (absl::EndsWith(held_back_, absl::string_view(string).substr(0, n))) keep = n;
    }
  }
  const std::string text = held_back_.substr(0, held_back_.size() - keep);
  held_back_.erase(0, text.size());
  return text;
}

std::string StopStrings::Finish() { return std::exchange(held_back_, ""); }

}  // namespace residual
