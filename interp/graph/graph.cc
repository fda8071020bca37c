#include "interp/graph/graph.h"

#include <algorithm>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "models/nn/nearest.h"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

// What the mixers of a model declare about heads: their numbers, by the name of the point.
absl::StatusOr<std::map<std::string, int64_t>> CountHeads(const ResidualModel& model) {
  std::map<std::string, int64_t> heads;
  Hooks hooks;
  std::map<std::string, std::string> declared;
  for (const DeclaredHook& hook : HookPoints(model)) declared[hook.name] = hook.dims;
  for (const auto& [name, dims] : declared) {
    // [batch, pos, heads, ..]
    const std::vector<std::string> axes = absl::StrSplit(dims, ", ");
    if (axes.size() != 4 || axes[1] != "pos" || !absl::StartsWith(axes[2], "n_")) continue;
    hooks.Read(name, [&heads](absl::string_view point, const Tensor& x) {
      heads[std::string(point)] = x.dim(2);
    });
  }
  if (!hooks.empty()) {
    ModelInput one;
    one.tokens = Tensor::Zeros({1, 1}, kI64);
    RESIDUAL_RETURN_IF_ERROR(model.Run(one, &hooks).status());
  }
  return heads;
}

// The parts a mixer reads in: the X of all "X.hook_in" with a "hook_X" of heads, in the order of
// their declaration.
std::vector<std::string> PartsOf(const ResidualModel& model, const std::string& module,
                                 const std::map<std::string, int64_t>& heads) {
  std::vector<std::string> parts;
  for (const DeclaredHook& hook : HookPoints(model)) {
    if (!absl::StartsWith(hook.name, module) || !absl::EndsWith(hook.name, ".hook_in")) continue;
    const std::string part = hook.name.substr(module.size(), hook.name.size() - module.size() - 8);
    if (heads.count(absl::StrCat(module, "hook_", part)) > 0) parts.push_back(part);
  }
  return parts;
}

}  // namespace

absl::StatusOr<EdgeGraph> EdgeGraph::Of(const ResidualModel& model) {
  EdgeGraph graph;
  RESIDUAL_ASSIGN_OR_RETURN(const auto heads, CountHeads(model));
  graph.writers_.push_back({"embed"});
  const auto add_reader = [&graph](GraphReader reader, int writers) {
    reader.writers = writers;
    reader.first_edge = graph.edges_;
    graph.edges_ += writers;
    graph.readers_.push_back(std::move(reader));
  };
  for (int layer = 0; layer < model.n_layers(); ++layer) {
    const Block& block = model.block(layer);
    const int before_block = static_cast<int>(graph.writers_.size());
    graph.reader_ranges_.emplace_back();
    graph.writer_ranges_.emplace_back();
    graph.weights_.emplace_back();
    for (size_t i = 0; i < block.branches().size(); ++i) {
      const Branch& branch = block.branches()[i];
      if (block.placement() == NormPlacement::kPost && branch.norm.kind() != NormKind::kNone) {
        return absl::UnimplementedError(absl::StrCat(
            "the stream is no sum of what was written: block ", layer, " has the norm '",
            branch.norm_name, "' behind what its mixer '", branch.name, "' adds"));
      }
      const int at = static_cast<int>(i);
      const std::string module = absl::StrCat("blocks.", layer, ".", branch.name, ".");
      const int writers = block.parallel() ? before_block : static_cast<int>(graph.writers_.size());
      Range read{static_cast<int>(graph.readers_.size()), 0};
      const std::vector<std::string> parts = PartsOf(model, module, heads);
      graph.weights_.back().emplace_back();
      for (const std::string& part : parts) {
        graph.weights_.back().back().emplace_back(*branch.mixer, part);
        const int64_t count = heads.at(absl::StrCat(module, "hook_", part));
        for (int64_t h = 0; h < count; ++h) {
          add_reader({absl::StrCat("L", layer, "H", h, ".", part), layer, at, part, h}, writers);
        }
      }
      if (parts.empty()) {
        add_reader({absl::StrCat("L", layer, ".", branch.name), layer, at}, writers);
      }
      read.end = static_cast<int>(graph.readers_.size());
      graph.reader_ranges_.back().push_back(read);

      Range written{static_cast<int>(graph.writers_.size()), 0};
      const auto results = heads.find(module + "hook_result");
      if (results == heads.end()) {
        graph.writers_.push_back({absl::StrCat("L", layer, ".", branch.name), layer, at});
      } else {
        for (int64_t h = 0; h < results->second; ++h) {
          graph.writers_.push_back({absl::StrCat("L", layer, "H", h), layer, at, h});
        }
      }
      written.end = static_cast<int>(graph.writers_.size());
      graph.writer_ranges_.back().push_back(written);
    }
  }
  add_reader({"logits", model.n_layers(), 0}, static_cast<int>(graph.writers_.size()));
  return graph;
}

int EdgeGraph::ReaderOf(int edge) const {
  RESIDUAL_CHECK(edge >= 0 && edge < edges_) << "edge " << edge << " of " << edges_;
  const auto after = std::upper_bound(
      readers_.begin(), readers_.end(), edge,
      [](int value, const GraphReader& reader) { return value < reader.first_edge; });
  return static_cast<int>(after - readers_.begin()) - 1;
}

std::string EdgeGraph::EdgeName(int edge) const {
  return absl::StrCat(writers_[WriterOf(edge)].name, "->", readers_[ReaderOf(edge)].name);
}

absl::StatusOr<int> EdgeGraph::FindEdge(const std::string& name) const {
  const std::vector<std::string> ends = absl::StrSplit(name, absl::MaxSplits("->", 1));
  if (ends.size() == 2) {
    for (size_t r = 0; r < readers_.size(); ++r) {
      if (readers_[r].name != ends[1]) continue;
      for (int w = 0; w < readers_[r].writers; ++w) {
        if (writers_[w].name == ends[0]) return EdgeOf(w, static_cast<int>(r));
      }
    }
  }
  std::vector<std::string> all;
  for (int edge = 0; edge < edges_; ++edge) all.push_back(EdgeName(edge));
  return absl::NotFoundError(
      absl::StrCat("the graph has no edge '", name, "'", DidYouMean(name, all)));
}

EdgeGraph::Range EdgeGraph::WritersBehind(int reader) const {
  const GraphReader& at = readers_[reader];
  if (at.layer == static_cast<int>(writer_ranges_.size())) return {};
  const Range all = WritersOf(at.layer, at.branch);
  if (at.head < 0 || writers_[all.begin].head < 0) return all;
  const Range siblings = ReadersOf(at.layer, at.branch);
  int64_t heads = 0;  // of the same part
  for (int r = siblings.begin; r < siblings.end; ++r) heads += readers_[r].part == at.part;
  const int group = static_cast<int>((all.end - all.begin) / heads);
  const int begin = all.begin + static_cast<int>(at.head) * group;
  return {begin, begin + group};
}

}  // namespace residual
