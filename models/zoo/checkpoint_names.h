// Where a parameter lies in a checkpoint of somebody else's naming. One rule per parameter serves
// reading and writing.

#ifndef RESIDUAL_MODELS_ZOO_CHECKPOINT_NAMES_H_
#define RESIDUAL_MODELS_ZOO_CHECKPOINT_NAMES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/nn/module.h"
#include "tensor/core/tensor.h"

namespace residual {

enum class CheckpointFormat {
  kStateDict,  // our own names, which are TransformerLens's: "blocks.0.attn.W_Q" [n_heads, ...]
  kStacked,    // TransformerLens's stacked weights: "W_Q" [n_layers, n_heads, d_model, d_head]
  kGpt2        // Hugging Face GPT-2: "transformer.h.0.attn.c_attn.weight" [d_model, 3 d_model]
};

// The tensor of a file that holds a parameter, and how.
struct CheckpointEntry {
  enum Layout {
    kAsIs,        // the parameter's shape on disk, or the same elements in another shape
    kTransposed,  // a matrix, transposed
    kLayer,       // row `index` of the leading axis (of `count`)
    kColumns      // columns [index, index + 1) * width of `count` equal parts of the last axis
  };
  std::string tensor;
  Layout layout = kAsIs;
  int index = 0, count = 1;
  Shape shape;  // of the file's tensor
};

// The rule for one parameter of a model with n_layers blocks; NotFound for a parameter the format
// has no name for.
absl::StatusOr<CheckpointEntry> EntryFor(CheckpointFormat format, const Parameter& parameter,
                                         int n_layers);

// The parameter's value in memory layout, out of the file's tensor (of entry.shape).
Tensor FromCheckpoint(const CheckpointEntry& entry, const Parameter& parameter,
                      const Tensor& stored);

// True for tensors that files of this format may hold though no parameter reads them: masks and
// other constants that old versions saved.
bool IsIgnorable(CheckpointFormat format, const std::string& tensor);

}  // namespace residual

#endif  // RESIDUAL_MODELS_ZOO_CHECKPOINT_NAMES_H_
