// Where a generation stands, in memory and in a file.

#ifndef RESIDUAL_MODELS_GENERATE_GENERATION_STATE_H_
#define RESIDUAL_MODELS_GENERATE_GENERATION_STATE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "models/stream/residual_model.h"

namespace residual {

// Texts, and how much of them a model has read. The last token of each is always unread: what the
// model makes of it is what comes next.
struct GenerationState {
  std::vector<std::vector<int64_t>> texts;  // of every prompt: its tokens so far
  // Row i of `model` is of text rows[i], after padding[i] tokens of padding. A text without a row
  // (it ended before others) is read anew if it is to go on.
  std::vector<int64_t> rows, padding;
  int64_t draws = 0;  // how many tokens were drawn so far: the next draw's index
  ModelState model;   // of no length: nothing was read
};

// Writes a state file (models/stream/state_file.h) with the lists "tokens", the texts one after the
// other, "lengths" of each, "rows", "padding" and "draws". FailedPrecondition if nothing was read.
absl::Status SaveGeneration(const std::string& path, const ResidualModel& model,
                            const GenerationState& state);

// InvalidArgument as LoadState, and for lists that do not fit together or tokens outside the
// vocabulary.
absl::StatusOr<GenerationState> LoadGeneration(const std::string& path, const ResidualModel& model);

}  // namespace residual

#endif  // RESIDUAL_MODELS_GENERATE_GENERATION_STATE_H_
