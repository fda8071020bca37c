// The flags of tools that read a prompt: --prompt, --tokens, --prompts.

#ifndef RESIDUAL_TOOLS_CLI_PROMPT_FLAGS_H_
#define RESIDUAL_TOOLS_CLI_PROMPT_FLAGS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "models/text/tokenizer.h"
#include "tools/cli/command_line.h"

namespace residual {

class PromptFlags {
 public:
  // Declares the flags on `cli`.
  explicit PromptFlags(CommandLine& cli);

  // A usage error unless exactly one of them was given, not empty; or at most one, where they are
  // not required.
  absl::Status Check(bool required = true) const;

  // --tokens: the only one that needs no tokenizer.
  bool ids_given() const { return !tokens_.empty(); }
  bool from_file() const { return !prompts_.empty(); }
  bool given() const { return ids_given() || from_file() || !prompt_.empty(); }

  // The ids of every prompt, a text's with the special tokens around it unless the user or
  // `begins` (false: texts go on from others) wants none. tokenizer: null where the model's folder
  // has none.
  absl::StatusOr<std::vector<std::vector<int64_t>>> Read(const Tokenizer* tokenizer,
                                                         const std::string& folder,
                                                         bool begins = true) const;

 private:
  absl::StatusOr<std::vector<std::vector<int64_t>>> ReadFrom(const std::string& path,
                                                             const Tokenizer* tokenizer,
                                                             const std::string& folder,
                                                             bool add_special) const;

  std::string prompt_, prompts_;
  std::vector<std::string> tokens_;
  bool add_special_ = true;
};

}  // namespace residual

#endif  // RESIDUAL_TOOLS_CLI_PROMPT_FLAGS_H_
