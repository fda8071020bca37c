#include "tensor/core/op_check.h"

#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"

namespace residual {
namespace internal {

void OpCheckFailed(const char* op, const char* condition,
                   std::initializer_list<const Tensor*> operands) {
  std::string text = absl::StrCat(op, ": check failed: ", condition, "; operands");
  for (const Tensor* operand : operands) absl::StrAppend(&text, " ", operand->ToString());
  std::fprintf(stderr, "%s\n", text.c_str());
  std::fflush(stderr);
  std::abort();
}

}  // namespace internal
}  // namespace residual
