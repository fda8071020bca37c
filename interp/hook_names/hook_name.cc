#include "interp/hook_names/hook_name.h"

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace residual {

BlockName SplitBlockName(absl::string_view name) {
  const std::vector<absl::string_view> parts = absl::StrSplit(name, absl::MaxSplits('.', 2));
  int layer;
  if (parts.size() < 3 || parts[0] != "blocks" || !absl::SimpleAtoi(parts[1], &layer) ||
      layer < 0) {
    return {-1, std::string(name)};
  }
  return {layer, std::string(parts[2])};
}

}  // namespace residual
