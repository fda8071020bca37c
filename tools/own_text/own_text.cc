#include "tools/own_text/own_text.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"
#include "tools/cpp/runfiles/runfiles.h"

namespace residual {

absl::StatusOr<NamedText> ReadTextOrOwn(const std::string& path, const std::string& program,
                                        const std::string& flag) {
  using bazel::tools::cpp::runfiles::Runfiles;
  NamedText text;
  if (!path.empty()) {
    text.name = path.substr(path.rfind('/') + 1);
    RESIDUAL_ASSIGN_OR_RETURN(text.bytes, ReadFile(path));
    if (text.bytes.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": empty, expected a text"));
    }
    return text;
  }
  std::string why;
  const std::unique_ptr<Runfiles> runfiles(Runfiles::Create(program, &why));
  if (runfiles == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("the project's own text is not beside the program (", why, "); give ", flag));
  }
  text.name = kOwnTextName;
  RESIDUAL_ASSIGN_OR_RETURN(
      text.bytes, ReadFile(runfiles->Rlocation("residual/tools/own_text/own_text_file.txt")));
  return text;
}

}  // namespace residual
