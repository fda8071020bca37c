// Where a model's parameters lie in files of somebody else's naming. One rule per parameter serves
// reading and writing; an architecture's rules are a table.
//
//   constexpr NameRule kRules[] = {
//       {"embed.W_E", "transformer.wte.weight"},
//       {"attn.W_Q", "transformer.h.#.attn.c_attn.weight", TensorLayout::kColumns, 0, 3},
//       ...

#ifndef RESIDUAL_MODELS_CHECKPOINT_NAMES_H_
#define RESIDUAL_MODELS_CHECKPOINT_NAMES_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "models/nn/module.h"
#include "tensor/core/tensor.h"

namespace residual {

// How a tensor holds a parameter. "Flat" is the parameter with its heads joined, as libraries
// without an axis for heads have it: W_Q [d_model, n_heads * d_head], W_O [n_heads * d_head,
// d_model], b_Q [n_heads * d_head]; any other parameter as it is.
enum class TensorLayout {
  kDisk,        // the parameter's own shape on disk (heads first)
  kFlat,        // flat
  kTransposed,  // flat and transposed: the weight [out, in] of a linear layer
  kLayer,       // row `index` of the leading axis of n_layers; the rest as on disk
  kColumns,     // flat: part `index` of `count` equal parts of the last axis
  // Transposed, the heads' parts side by side: rows [n_heads, count, d_head] of a linear layer's
  // weight or bias hold, for each head, part `index` of `count` (GPT-NeoX: queries, keys, values).
  kHeadParts
};

struct NameRule {
  const char* parameter;  // as in Describe; within a block without "blocks.L."
  const char* tensor;     // "#": the block's number
  TensorLayout layout = TensorLayout::kFlat;
  int index = 0, count = 1;
};

// All rules of one way to name a model's parameters.
struct NameMap {
  // Empty: every parameter under its own name, in its own shape on disk (kDisk).
  absl::Span<const NameRule> rules;
  // Parameters that files of this kind do not hold, by glob: they get their initial value (the
  // gains and biases of norms that were folded into other weights).
  std::vector<std::string> implied;
  // What files of this kind leave out of the rules' names, if it begins them.
  std::string dropped_prefix;
  // True for tensors that files hold though no parameter reads them: masks and other constants.
  bool (*ignorable)(absl::string_view tensor) = nullptr;
};

// The tensor that holds a parameter, and how.
struct TensorEntry {
  std::string tensor;  // empty: an implied parameter
  TensorLayout layout = TensorLayout::kDisk;
  int index = 0, count = 1;
  Shape shape;  // of the whole tensor
};

// The entry of one parameter of a model with n_layers blocks; NotFound for a parameter the map has
// no rule for.
absl::StatusOr<TensorEntry> EntryFor(const NameMap& map, const Parameter& parameter, int n_layers);

// The parameter's value in memory layout, out of a tensor of entry.shape. Shares its bytes where no
// element has to move.
Tensor FromCheckpoint(const TensorEntry& entry, const Parameter& parameter, const Tensor& stored);

// The parameter, a matrix, as what a stored weight multiplies by. Shares the tensor's bytes but for
// those with an axis of heads that is not where it is in memory (kDisk, kLayer).
StoredMatrix StoredFromCheckpoint(const TensorEntry& entry, const Parameter& parameter,
                                  const Tensor& stored);

// The inverse: one tensor from all parameters that lie in it, in order of their entries' index.
struct Stored {
  TensorEntry entry;
  Parameter parameter;
};
Tensor ToCheckpoint(const std::vector<Stored>& parts);

}  // namespace residual

#endif  // RESIDUAL_MODELS_CHECKPOINT_NAMES_H_
