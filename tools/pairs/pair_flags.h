// The flags of tools that compare a clean and a corrupted run: --clean and --corrupted or --task,
// --answer, --wrong, --metric.

#ifndef RESIDUAL_TOOLS_PAIRS_PAIR_FLAGS_H_
#define RESIDUAL_TOOLS_PAIRS_PAIR_FLAGS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "interp/metric/metric.h"
#include "models/zoo/zoo.h"
#include "tensor/io/safetensors.h"
#include "tensor/journal/journal.h"
#include "tools/cli/command_line.h"

namespace residual {

// Prompts in pairs, row by row, of the same length or not: what compares them says.
struct PromptSet {
  ModelInput clean, corrupted;
  std::vector<std::string> answer, wrong;
  std::vector<NamedTensor> made;  // those of a task, to be kept with the result
};

class PairFlags {
 public:
  // Declares the flags on `cli`, which outlives this.
  explicit PairFlags(CommandLine& cli);

  // Those of --clean and --corrupted, or made for --task with --seed.
  absl::StatusOr<PromptSet> Read(const LoadedModel& loaded) const;

  // --metric of these prompts. clean_logits: [batch, d_vocab] of the clean run, asked for by kl.
  absl::StatusOr<Metric> MetricOf(const PromptSet& prompts, int64_t d_vocab,
                                  const std::function<Tensor()>& clean_logits) const;

  // The fields by which the prompts and the metric are known (UnitFlags).
  Journal::Subject Subject(const PromptSet& prompts) const;

  const std::string& metric() const { return metric_; }

 private:
  const CommandLine& cli_;
  std::string clean_, corrupted_, task_, metric_ = "logit_difference";
  int64_t rows_ = 16, length_ = 32;
  std::vector<std::string> answer_, wrong_;
};

}  // namespace residual

#endif  // RESIDUAL_TOOLS_PAIRS_PAIR_FLAGS_H_
