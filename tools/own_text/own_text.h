// The text of this project's own sources and documents, which lies beside programs that depend on
// it: what is trained on where no other text is given.

#ifndef RESIDUAL_TOOLS_OWN_TEXT_OWN_TEXT_H_
#define RESIDUAL_TOOLS_OWN_TEXT_OWN_TEXT_H_

#include <string>

#include "absl/status/statusor.h"

namespace residual {

inline constexpr char kOwnTextName[] = "residual’s own sources and documents";

// A text to train on, and what it is called.
struct NamedText {
  std::string name, bytes;
};

// The text in the file `path`, called by the file's name; or, with an empty path, the project's
// own. `program` is argv[0]; `flag` ("--text=FILE") is what an error asks for. NotFound if the own
// text is not beside the program, InvalidArgument for an empty file, else what reading gave.
absl::StatusOr<NamedText> ReadTextOrOwn(const std::string& path, const std::string& program,
                                        const std::string& flag);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_OWN_TEXT_OWN_TEXT_H_
