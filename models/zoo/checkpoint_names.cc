#include "models/zoo/checkpoint_names.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "ops/layout/layout.h"

namespace residual {
namespace {

using Layout = CheckpointEntry::Layout;

// "blocks.3.attn.W_Q" -> 3 and "attn.W_Q"; -1 and the name itself outside blocks.
std::pair<int, std::string> SplitBlock(const std::string& name) {
  const std::vector<std::string> parts = absl::StrSplit(name, absl::MaxSplits('.', 2));
  int layer;
  if (parts.size() == 3 && parts[0] == "blocks" && absl::SimpleAtoi(parts[1], &layer)) {
    return {layer, parts[2]};
  }
  return {-1, name};
}

struct Rule {
  const char* parameter;  // as in Describe; within a block without "blocks.L."
  const char* tensor;     // "#": the layer
  Layout layout = CheckpointEntry::kAsIs;
  int index = 0, count = 1;
};

constexpr Rule kGpt2Rules[] = {
    {"embed.W_E", "transformer.wte.weight"},
    {"pos_embed.W_pos", "transformer.wpe.weight"},
    {"ln1.w", "transformer.h.#.ln_1.weight"},
    {"ln1.b", "transformer.h.#.ln_1.bias"},
    {"attn.W_Q", "transformer.h.#.attn.c_attn.weight", CheckpointEntry::kColumns, 0, 3},
    {"attn.W_K", "transformer.h.#.attn.c_attn.weight", CheckpointEntry::kColumns, 1, 3},
    {"attn.W_V", "transformer.h.#.attn.c_attn.weight", CheckpointEntry::kColumns, 2, 3},
    {"attn.b_Q", "transformer.h.#.attn.c_attn.bias", CheckpointEntry::kColumns, 0, 3},
    {"attn.b_K", "transformer.h.#.attn.c_attn.bias", CheckpointEntry::kColumns, 1, 3},
    {"attn.b_V", "transformer.h.#.attn.c_attn.bias", CheckpointEntry::kColumns, 2, 3},
    {"attn.W_O", "transformer.h.#.attn.c_proj.weight"},
    {"attn.b_O", "transformer.h.#.attn.c_proj.bias"},
    {"ln2.w", "transformer.h.#.ln_2.weight"},
    {"ln2.b", "transformer.h.#.ln_2.bias"},
    {"mlp.W_in", "transformer.h.#.mlp.c_fc.weight"},
    {"mlp.b_in", "transformer.h.#.mlp.c_fc.bias"},
    {"mlp.W_out", "transformer.h.#.mlp.c_proj.weight"},
    {"mlp.b_out", "transformer.h.#.mlp.c_proj.bias"},
    {"ln_final.w", "transformer.ln_f.weight"},
    {"ln_final.b", "transformer.ln_f.bias"},
    {"unembed.W_U", "lm_head.weight", CheckpointEntry::kTransposed},
};

// TransformerLens stacks the weights of heads and MLPs, and names the rest by state dict.
constexpr Rule kStackedRules[] = {
    {"embed.W_E", "W_E"},
    {"pos_embed.W_pos", "W_pos"},
    {"attn.W_Q", "W_Q", CheckpointEntry::kLayer},
    {"attn.W_K", "W_K", CheckpointEntry::kLayer},
    {"attn.W_V", "W_V", CheckpointEntry::kLayer},
    {"attn.W_O", "W_O", CheckpointEntry::kLayer},
    {"attn.b_Q", "b_Q", CheckpointEntry::kLayer},
    {"attn.b_K", "b_K", CheckpointEntry::kLayer},
    {"attn.b_V", "b_V", CheckpointEntry::kLayer},
    {"attn.b_O", "b_O", CheckpointEntry::kLayer},
    {"mlp.W_in", "W_in", CheckpointEntry::kLayer},
    {"mlp.b_in", "b_in", CheckpointEntry::kLayer},
    {"mlp.W_out", "W_out", CheckpointEntry::kLayer},
    {"mlp.b_out", "b_out", CheckpointEntry::kLayer},
    {"ln1.w", "blocks.#.ln1.w"},
    {"ln1.b", "blocks.#.ln1.b"},
    {"ln2.w", "blocks.#.ln2.w"},
    {"ln2.b", "blocks.#.ln2.b"},
    {"ln_final.w", "ln_final.w"},
    {"ln_final.b", "ln_final.b"},
    {"unembed.W_U", "W_U"},
    {"unembed.b_U", "b_U"},
};

// The shape of a parameter as a matrix or vector: heads joined.
Shape Flat(const Shape& shape) {
  if (shape.rank() == 3) return {shape[0], shape[1] * shape[2]};
  return shape;
}

}  // namespace

absl::StatusOr<CheckpointEntry> EntryFor(CheckpointFormat format, const Parameter& parameter,
                                         int n_layers) {
  CheckpointEntry entry;
  if (format == CheckpointFormat::kStateDict) {
    entry.tensor = parameter.name;
    entry.shape = DiskShape(parameter);
    return entry;
  }
  const auto [layer, name] = SplitBlock(parameter.name);
  const auto rules = format == CheckpointFormat::kGpt2 ? absl::MakeConstSpan(kGpt2Rules)
                                                       : absl::MakeConstSpan(kStackedRules);
  for (const Rule& rule : rules) {
    if (name != rule.parameter) continue;
    entry.layout = rule.layout;
    entry.index = rule.index;
    entry.count = rule.count;
    for (const char* c = rule.tensor; *c; ++c) {
      if (*c == '#') {
        absl::StrAppend(&entry.tensor, layer);
      } else {
        entry.tensor.push_back(*c);
      }
    }
    switch (rule.layout) {
      case CheckpointEntry::kAsIs:
        entry.shape = format == CheckpointFormat::kGpt2 && name == "attn.W_O"
                          ? Shape{parameter.shape[0] * parameter.shape[1], parameter.shape[2]}
                          : parameter.shape;
        break;
      case CheckpointEntry::kTransposed:
        entry.shape = {parameter.shape[1], parameter.shape[0]};
        break;
      case CheckpointEntry::kLayer:
        entry.index = layer;
        entry.count = n_layers;
        entry.shape = DiskShape(parameter).Inserted(0, n_layers);
        break;
      case CheckpointEntry::kColumns: {
        // A bias [n_heads, d_head] is a vector in the file.
        const Shape flat = parameter.shape.rank() == 2 ? Shape{parameter.shape.elements()}
                                                       : Flat(parameter.shape);
        entry.shape = flat.With(-1, flat[-1] * rule.count);
        break;
      }
    }
    return entry;
  }
  return absl::NotFoundError(absl::StrCat("this format has no tensor for '", parameter.name, "'"));
}

Tensor FromCheckpoint(const CheckpointEntry& entry, const Parameter& parameter,
                      const Tensor& stored) {
  RESIDUAL_CHECK(stored.shape() == entry.shape)
      << entry.tensor << ": " << stored.ToString() << ", expected " << entry.shape;
  switch (entry.layout) {
    case CheckpointEntry::kAsIs:
      return stored.shape() == DiskShape(parameter) ? FromDisk(parameter, stored)
                                                    : stored.Reshaped(parameter.shape);
    case CheckpointEntry::kTransposed:
      return Transpose(stored, 0, 1);
    case CheckpointEntry::kLayer:
      return FromDisk(parameter, stored.Row(entry.index));
    case CheckpointEntry::kColumns: {
      const int64_t width = stored.dim(-1) / entry.count;
      return Slice(stored, -1, entry.index * width, (entry.index + 1) * width)
          .Reshaped(parameter.shape);
    }
  }
  return stored;
}

bool IsIgnorable(CheckpointFormat format, const std::string& tensor) {
  // Causal masks, as buffers of old versions.
  return format == CheckpointFormat::kGpt2 && (absl::EndsWith(tensor, ".attn.bias") ||
                                               absl::EndsWith(tensor, ".attn.masked_bias"));
}

}  // namespace residual
