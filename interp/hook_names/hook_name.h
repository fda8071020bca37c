// Names of hook points and parameters, taken apart.

#ifndef RESIDUAL_INTERP_HOOK_NAMES_HOOK_NAME_H_
#define RESIDUAL_INTERP_HOOK_NAMES_HOOK_NAME_H_

#include <string>

#include "absl/strings/string_view.h"

namespace residual {

// "blocks.3.attn.hook_z" is {3, "attn.hook_z"}; a name outside the blocks is {-1, the name}.
struct BlockName {
  int layer = -1;
  std::string within;
};
BlockName SplitBlockName(absl::string_view name);

}  // namespace residual

#endif  // RESIDUAL_INTERP_HOOK_NAMES_HOOK_NAME_H_
