// States of models in files: a text that was read once can be gone on from in another process.
//
// A state file is safetensors. Its metadata names the kind of file and the shape of the model
// (d_model, d_vocab, n_ctx, n_layers) and how many rows and tokens the state has seen; its tensors
// are those of the mixers ("blocks.0.attn.keys" [batch, length, n_kv_heads, d_head]), lists of
// whoever wrote it, and `probe`: the logits of a few fixed tokens, by which the weights are known
// again. What goes on from a loaded state has the bits of what was never interrupted.

#ifndef RESIDUAL_MODELS_STREAM_STATE_FILE_H_
#define RESIDUAL_MODELS_STREAM_STATE_FILE_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "models/stream/residual_model.h"

namespace residual {

// Numbers that go with a state: "tokens" and the like. No name is "probe" or begins with "blocks.".
using StateLists = std::map<std::string, std::vector<int64_t>>;

// Writes the file atomically. `state` is one of this model's, of `batch` rows, that has seen
// tokens.
absl::Status SaveState(const std::string& path, const ResidualModel& model, const ModelState& state,
                       int64_t batch, const StateLists& lists = {});

struct SavedState {
  ModelState state;
  int64_t batch = 0;
  StateLists lists;
};

// `lists` names those that the file is to have. InvalidArgument names the file, the field or
// tensor, what was found and what was expected, for no state file, one of a model of another shape
// or with other weights (whose probe differs by more than 1e-3), and tensors that are missing,
// misshapen, of a wrong dtype or too many; else what SafetensorsFile::Open gives.
absl::StatusOr<SavedState> LoadState(const std::string& path, const ResidualModel& model,
                                     const std::vector<std::string>& lists = {});

}  // namespace residual

#endif  // RESIDUAL_MODELS_STREAM_STATE_FILE_H_
