// A tensor of a file, as flags name it: FILE or FILE:NAME.

#ifndef RESIDUAL_TOOLS_CLI_TENSOR_PATH_H_
#define RESIDUAL_TOOLS_CLI_TENSOR_PATH_H_

#include <string>

namespace residual {

struct TensorPath {
  std::string path, name;
};

// A file of the whole text's name goes first: a name may hold a colon. `name`: where none is given.
TensorPath SplitTensorPath(const std::string& text, const std::string& name);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_CLI_TENSOR_PATH_H_
