// What the tools that read a model have in common: --model and --no_mmap, for those that only run
// it --dtype, --quantize and --precision, and token files.

#ifndef RESIDUAL_TOOLS_CLI_MODEL_FLAGS_H_
#define RESIDUAL_TOOLS_CLI_MODEL_FLAGS_H_

#include <string>

#include "absl/status/statusor.h"
#include "models/nn/precision.h"
#include "models/zoo/zoo.h"
#include "tools/cli/command_line.h"

namespace residual {

class ModelFlags {
 public:
  enum Use { kAny, kRun };
  // Declares the flags on `cli`, which outlives this. kRun: the tool runs the model and does no
  // more with it, so its weights stay as the file has them (LoadOptions::stored), or as --dtype
  // says.
  explicit ModelFlags(CommandLine& cli, Use use = kAny);

  // The model of --model. Its warnings go to stderr, one line each.
  absl::StatusOr<LoadedModel> Load() const;

  // Sets what the flags say of reading files.
  LoadOptions options() const;
  // --precision: of the model's runs.
  Precision precision() const { return *PrecisionFromName(precision_); }
  const std::string& path() const { return path_; }

 private:
  const CommandLine& cli_;
  Use use_;
  std::string path_, dtype_ = "auto", quantize_ = "none", precision_ = "f32";
  bool no_mmap_ = false;
};

// "TOOL: warning: ..." on stderr.
void PrintWarning(const CommandLine& cli, absl::string_view message);

// Tokens of a safetensors file: the tensor `input`, integers [batch, pos] or [pos], and the mask of
// the same shape (1: token, 0: padding), if the file has it. An empty `mask` stands for
// "attention_mask", which is left out where it does not have the shape of an `input` of another
// name than "input_ids".
absl::StatusOr<ModelInput> ReadModelInput(const std::string& path, const std::string& input,
                                          const std::string& mask = "");

}  // namespace residual

#endif  // RESIDUAL_TOOLS_CLI_MODEL_FLAGS_H_
