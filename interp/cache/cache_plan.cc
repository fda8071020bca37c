#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "interp/cache/activation_cache.h"
#include "interp/hook_names/hook_name.h"
#include "interp/patch/activation_axes.h"
#include "ops/layout/layout.h"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

// Numbers in [0, size), those that are negative from the end.
absl::StatusOr<std::vector<int64_t>> Resolve(const char* what, const std::vector<int64_t>& numbers,
                                             int64_t size, const std::string& of) {
  std::vector<int64_t> resolved;
  for (const int64_t number : numbers) {
    const int64_t index = number < 0 ? size + number : number;
    if (index < 0 || index >= size) {
      return absl::InvalidArgumentError(
          absl::StrCat(what, " ", number, " of ", of, " is outside [", -size, ", ", size, ")"));
    }
    if (std::count(resolved.begin(), resolved.end(), index) > 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(what, " ", number, " of ", of, " is asked for twice"));
    }
    resolved.push_back(index);
  }
  return resolved;
}

// The points that are asked for.
absl::StatusOr<std::map<std::string, DeclaredHook>> Choose(const ResidualModel& model,
                                                           const CacheSpec& spec,
                                                           const LayersRun& run) {
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<int64_t> layers,
                            Resolve("layer", spec.layers, model.n_layers(), "the model"));
  for (const int64_t layer : layers) {
    if (layer < run.layers.begin || layer >= run.layers.end) {
      return absl::InvalidArgumentError(absl::StrCat("layer ", layer,
                                                     " is not among those that are run, [",
                                                     run.layers.begin, ", ", run.layers.end, ")"));
    }
  }
  const std::vector<DeclaredHook> declared = HookPoints(model);
  std::map<std::string, DeclaredHook> chosen;
  for (const std::string& name : spec.names) {
    Hooks known;
    known.Read(name, [](absl::string_view, const Tensor&) {});
    RESIDUAL_RETURN_IF_ERROR(known.Validate(declared));
    const std::string pattern = CanonicalHookName(name);
    bool any = false;
    for (const DeclaredHook& hook : declared) {
      if (!GlobMatches(pattern, hook.name) || !FiresIn(model, run, hook.name)) continue;
      if (!layers.empty() &&
          std::count(layers.begin(), layers.end(), SplitBlockName(hook.name).layer) == 0) {
        continue;
      }
      chosen[hook.name] = hook;
      any = true;
    }
    if (!any) {
      return absl::InvalidArgumentError(absl::StrCat(
          "what '", name, "' matches is outside the layers that are kept of a run of [",
          run.layers.begin, ", ", run.layers.end, ")"));
    }
  }
  return chosen;
}

std::vector<std::string> AxisNames(const std::string& dims) {
  const std::string inner = dims.substr(1, dims.size() - 2);
  return absl::StrSplit(inner, ", ");
}

// The points of a small run in the order they fire.
using Fired = std::vector<std::pair<std::string, Tensor>>;
absl::StatusOr<Fired> Probe(const ResidualModel& model, const ModelInput& input,
                            const PartialRun& part,
                            const std::map<std::string, DeclaredHook>& chosen, int64_t rows,
                            int64_t tokens) {
  const auto cut = [&](const Tensor& x) { return Slice(Slice(x, 0, 0, rows), 1, 0, tokens); };
  ModelInput small;
  small.tokens = cut(input.tokens);
  small.precision = input.precision;
  PartialRun same = part;
  if (part.resid.defined()) same.resid = cut(part.resid);
  Fired fired;
  Hooks hooks;
  for (const auto& [name, hook] : chosen) {
    hooks.Read(name, [&fired](absl::string_view point, const Tensor& x) {
      fired.emplace_back(std::string(point), x);
    });
  }
  RESIDUAL_RETURN_IF_ERROR(
      RunLayers(model, small, same, chosen.empty() ? nullptr : &hooks).status());
  return fired;
}

}  // namespace

int64_t CachePlan::bytes() const {
  int64_t sum = 0;
  for (const CacheEntry& entry : entries) sum += entry.same_as < 0 ? entry.bytes() : 0;
  return sum;
}

int64_t CachePlan::file_bytes() const {
  int64_t sum = 0;
  for (const CacheEntry& entry : entries) sum += entry.bytes();
  return sum;
}

absl::StatusOr<CachePlan> PlanCache(const ResidualModel& model, const ModelInput& input,
                                    const CacheSpec& spec, const PartialRun& part) {
  RESIDUAL_ASSIGN_OR_RETURN(const LayersRun run, CheckPartialRun(model, input, part));
  RESIDUAL_ASSIGN_OR_RETURN(const auto chosen, Choose(model, spec, run));
  const int64_t batch = input.tokens.dim(0), length = input.tokens.dim(1);
  RESIDUAL_ASSIGN_OR_RETURN(
      const std::vector<int64_t> positions,
      Resolve("position", spec.positions, length, absl::StrCat("prompts of ", length, " tokens")));

  // Two rows of two tokens: of one, layouts that differ in longer runs would be the same bytes.
  const int64_t rows = std::min<int64_t>(2, batch), tokens = std::min<int64_t>(2, length);
  RESIDUAL_ASSIGN_OR_RETURN(const Fired fired, Probe(model, input, part, chosen, rows, tokens));
  Fired shorter;  // for axes that grow with the prompt and are not said to (a kernel's taps)
  const bool grows = std::any_of(chosen.begin(), chosen.end(), [](const auto& point) {
    return !absl::StartsWith(point.second.dims, "[batch");
  });
  if (grows && tokens > 1) {
    RESIDUAL_ASSIGN_OR_RETURN(shorter, Probe(model, input, part, chosen, rows, 1));
  }

  CachePlan plan;
  plan.part = part;
  plan.prompts = input.tokens.shape();
  plan.last_logits = run.unembeds ? input.last_logits : 0;
  for (size_t i = 0; i < fired.size(); ++i) {
    const auto& [name, x] = fired[i];
    const std::string& dims = chosen.at(name).dims;
    const std::vector<std::string> axes = AxisNames(dims);
    if (static_cast<int>(axes.size()) != x.rank()) {
      return absl::InternalError(
          absl::StrCat("'", name, "' is ", x.ToString(), ", but declared ", dims));
    }
    // Points behind the blocks hold the last positions alone, if the input asks for those.
    const bool few = plan.last_logits > 0 && IsBehindBlocks(name);
    if (few && !positions.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("positions of '", name,
                                                     "' are asked for, and the run makes the last ",
                                                     plan.last_logits, " alone there"));
    }
    CacheEntry entry;
    entry.name = name;
    entry.shape = x.shape();
    entry.dtype = x.dtype();
    for (int axis = 0; axis < x.rank(); ++axis) {
      int64_t size = x.dim(axis);
      if (axes[axis] == "batch") {
        size = batch;
      } else if (axes[axis] == "pos" || axes[axis] == "query" || axes[axis] == "key") {
        size = few ? plan.last_logits : length;
      } else if (!shorter.empty()) {
        size += (length - tokens) * (size - shorter[i].second.dim(axis));
      }
      entry.shape = entry.shape.With(axis, size);
    }
    const absl::StatusOr<ActivationAxes> parts = AxesOf(name, dims);
    if (parts.ok() && parts->pos >= 0 && !positions.empty()) {
      entry.pos_axis = parts->pos;
      entry.positions = positions;
      entry.shape = entry.shape.With(parts->pos, static_cast<int64_t>(positions.size()));
    }
    if (parts.ok() && parts->head >= 0 && !spec.heads.empty()) {
      RESIDUAL_ASSIGN_OR_RETURN(entry.heads, Resolve("head", spec.heads, x.dim(parts->head),
                                                     absl::StrCat("'", name, "'")));
      entry.head_axis = parts->head;
      entry.shape = entry.shape.With(parts->head, static_cast<int64_t>(entry.heads.size()));
    }
    for (size_t j = 0; j < i && entry.same_as < 0; ++j) {
      const Tensor& before = fired[j].second;
      const CacheEntry& other = plan.entries[j];
      if (before.raw_data() == x.raw_data() && before.bytes() == x.bytes() &&
          other.bytes() == entry.bytes() && other.pos_axis == entry.pos_axis &&
          other.head_axis == entry.head_axis) {
        entry.same_as = static_cast<int>(j);
      }
    }
    plan.entries.push_back(std::move(entry));
  }
  return plan;
}

}  // namespace residual
