#include "tools/cli/tensor_path.h"

#include <cstdio>

namespace residual {

TensorPath SplitTensorPath(const std::string& text, const std::string& name) {
  const size_t colon = text.rfind(':');
  std::FILE* const whole = std::fopen(text.c_str(), "rb");
  if (whole != nullptr) {
    std::fclose(whole);
  } else if (colon != std::string::npos && text.find('/', colon) == std::string::npos) {
    return {text.substr(0, colon), text.substr(colon + 1)};
  }
  return {text, name};
}

}  // namespace residual
