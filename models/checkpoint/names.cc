#include "models/checkpoint/names.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "ops/layout/layout.h"

namespace residual {
namespace {

// "blocks.3.attn.W_Q" -> 3 and "attn.W_Q"; -1 and the name itself outside blocks.
std::pair<int, std::string> SplitBlock(const std::string& name) {
  const std::vector<std::string> parts = absl::StrSplit(name, absl::MaxSplits('.', 2));
  int layer;
  if (parts.size() == 3 && parts[0] == "blocks" && absl::SimpleAtoi(parts[1], &layer)) {
    return {layer, parts[2]};
  }
  return {-1, name};
}

bool IsBias(const std::string& name) {
  const std::string leaf = name.substr(name.rfind('.') + 1);
  return leaf == "b" || absl::StartsWith(leaf, "b_");
}

Shape FlatShape(const Parameter& parameter) {
  const Shape& s = parameter.shape;
  if (IsBias(parameter.name)) return {s.elements()};
  if (s.rank() != 3) return s;
  return parameter.options.heads_first ? Shape{s[0], s[1] * s[2]} : Shape{s[0] * s[1], s[2]};
}

// [n_heads, count, d_head, d_model] of a weight [d_model, n_heads, d_head], [n_heads, count,
// d_head] of a bias [n_heads, d_head].
Shape HeadPartsShape(const Parameter& parameter, int64_t count) {
  const Shape& s = parameter.shape;
  RESIDUAL_CHECK(s.rank() == 2 || s.rank() == 3) << parameter.name << " " << s;
  return s.rank() == 2 ? Shape{s[0], count, s[1]} : Shape{s[1], count, s[2], s[0]};
}

Shape WholeShape(const NameRule& rule, const Parameter& parameter, int n_layers) {
  const Shape flat = FlatShape(parameter);
  switch (rule.layout) {
    case TensorLayout::kDisk:
      return DiskShape(parameter);
    case TensorLayout::kFlat:
      return flat;
    case TensorLayout::kTransposed:
      RESIDUAL_CHECK_EQ(flat.rank(), 2) << parameter.name;
      return {flat[1], flat[0]};
    case TensorLayout::kLayer:
      return DiskShape(parameter).Inserted(0, n_layers);
    case TensorLayout::kColumns:
      return flat.With(-1, flat[-1] * rule.count);
    case TensorLayout::kHeadParts:
      return flat.rank() == 1 ? Shape{flat[0] * rule.count} : Shape{flat[1] * rule.count, flat[0]};
  }
  return flat;
}

}  // namespace

absl::StatusOr<TensorEntry> EntryFor(const NameMap& map, const Parameter& parameter, int n_layers) {
  TensorEntry entry;
  const auto is_implied = [&](const std::string& glob) {
    return GlobMatches(glob, parameter.name);
  };
  if (std::any_of(map.implied.begin(), map.implied.end(), is_implied)) return entry;
  if (map.rules.empty()) {
    entry.tensor = parameter.name;
    entry.shape = DiskShape(parameter);
    return entry;
  }
  const auto [layer, name] = SplitBlock(parameter.name);
  for (const NameRule& rule : map.rules) {
    if (name != rule.parameter) continue;
    const std::string block = absl::StrCat(layer);
    for (const char* c = rule.tensor; *c; ++c) {
      *c == '#' ? entry.tensor.append(block) : entry.tensor.append(1, *c);
    }
    entry.tensor = std::string(absl::StripPrefix(entry.tensor, map.dropped_prefix));
    entry.layout = rule.layout;
    entry.index = rule.layout == TensorLayout::kLayer ? layer : rule.index;
    entry.count = rule.layout == TensorLayout::kLayer ? n_layers : rule.count;
    entry.shape = WholeShape(rule, parameter, n_layers);
    return entry;
  }
  return absl::NotFoundError(
      absl::StrCat("the format has no tensor for the parameter '", parameter.name, "'"));
}

Tensor FromCheckpoint(const TensorEntry& entry, const Parameter& parameter, const Tensor& stored) {
  RESIDUAL_CHECK(stored.shape() == entry.shape)
      << entry.tensor << ": " << stored.ToString() << ", expected " << entry.shape;
  switch (entry.layout) {
    case TensorLayout::kDisk:
      return FromDisk(parameter, stored);
    case TensorLayout::kFlat:
      return stored.Reshaped(parameter.shape);
    case TensorLayout::kTransposed:
      return Transpose(stored, 0, 1).Reshaped(parameter.shape);
    case TensorLayout::kLayer:
      return FromDisk(parameter, stored.Row(entry.index));
    case TensorLayout::kColumns: {
      const int64_t width = stored.dim(-1) / entry.count;
      return Slice(stored, -1, entry.index * width, (entry.index + 1) * width)
          .Reshaped(parameter.shape);
    }
    case TensorLayout::kHeadParts: {
      // [n_heads, count, d_head, d_model] -> [d_model, n_heads, d_head], or without d_model.
      const Tensor parts = stored.Reshaped(HeadPartsShape(parameter, entry.count));
      const Tensor part = Slice(parts, 1, entry.index, entry.index + 1);
      if (parts.rank() == 3) return part.Reshaped(parameter.shape);
      return Permute(part.Reshaped({parts.dim(0), parts.dim(2), parts.dim(3)}), {2, 0, 1});
    }
  }
  return stored;
}

StoredMatrix StoredFromCheckpoint(const TensorEntry& entry, const Parameter& parameter,
                                  const Tensor& stored) {
  StoredMatrix matrix;
  matrix.shape = parameter.shape;
  switch (entry.layout) {
    case TensorLayout::kTransposed:
    case TensorLayout::kHeadParts:
      matrix.transposed = true;
      [[fallthrough]];
    case TensorLayout::kColumns:
      matrix.values = stored;
      matrix.part = entry.index;
      matrix.parts = entry.count;
      matrix.by_head = entry.layout == TensorLayout::kHeadParts;
      return matrix;
    case TensorLayout::kDisk:
    case TensorLayout::kFlat:
    case TensorLayout::kLayer:
      matrix.values = FromCheckpoint(entry, parameter, stored).Reshaped(FlatShape(parameter));
  }
  return matrix;
}

Tensor ToCheckpoint(const std::vector<Stored>& parts) {
  RESIDUAL_CHECK(!parts.empty());
  const TensorEntry& entry = parts[0].entry;
  std::vector<Tensor> values;
  for (size_t i = 0; i < parts.size(); ++i) {
    const Parameter& parameter = parts[i].parameter;
    RESIDUAL_CHECK(parts[i].entry.tensor == entry.tensor && parts[i].entry.index == int(i) &&
                   entry.count == int(parts.size()))
        << parameter.name << " in " << entry.tensor;
    const Tensor& value = *parameter.value;
    const bool disk = entry.layout == TensorLayout::kDisk || entry.layout == TensorLayout::kLayer;
    values.push_back(disk ? ToDisk(parameter, value) : value.Reshaped(FlatShape(parameter)));
  }
  switch (entry.layout) {
    case TensorLayout::kDisk:
    case TensorLayout::kFlat:
      return values[0];
    case TensorLayout::kTransposed:
      return Transpose(values[0], 0, 1);
    case TensorLayout::kLayer:
      return Concat(values, 0).Reshaped(entry.shape);
    case TensorLayout::kColumns:
      return Concat(values, -1);
    case TensorLayout::kHeadParts: {
      for (size_t i = 0; i < parts.size(); ++i) {
        const Parameter& parameter = parts[i].parameter;
        const Tensor& value = *parameter.value;
        const Tensor rows = value.rank() == 2 ? value : Permute(value, {1, 2, 0});
        values[i] = rows.Reshaped(HeadPartsShape(parameter, 1));
      }
      return Concat(values, 1).Reshaped(entry.shape);
    }
  }
  return values[0];
}

}  // namespace residual
