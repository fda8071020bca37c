// --sender, --receiver and --frozen_norm of //tools:edges: path patching by the names of a graph.

#ifndef RESIDUAL_TOOLS_PATH_FLAGS_PATH_FLAGS_H_
#define RESIDUAL_TOOLS_PATH_FLAGS_PATH_FLAGS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "interp/graph/graph.h"
#include "interp/paths/paths.h"
#include "models/stream/residual_model.h"
#include "tools/cli/command_line.h"
#include "tools/pairs/pair_flags.h"

namespace residual {

// The writer "L3H5", "L3.mlp" or "embed" as a sender, the reader "L4H2.q", "L4.mlp" or "logits" as
// a receiver. NotFound, with the nearest, for another name.
absl::StatusOr<PathEnd> SenderOf(const ResidualModel& model, const EdgeGraph& graph,
                                 const std::string& name);
absl::StatusOr<PathEnd> ReceiverOf(const ResidualModel& model, const EdgeGraph& graph,
                                   const std::string& name);

class PathFlags {
 public:
  // Declares the flags on `cli`.
  explicit PathFlags(CommandLine& cli);
  bool given() const { return !senders_.empty() || !receivers_.empty(); }
  // A usage error for one without the other.
  absl::Status Check() const;

  // Patches every path and prints the effects; `out`: where to write them too, or empty.
  absl::Status Run(const CommandLine& cli, const ResidualModel& model, const EdgeGraph& graph,
                   const PairFlags& pairs, const PromptSet& prompts, const std::string& out) const;

 private:
  std::vector<std::string> senders_, receivers_;
  bool frozen_norm_ = false;
};

}  // namespace residual

#endif  // RESIDUAL_TOOLS_PATH_FLAGS_PATH_FLAGS_H_
