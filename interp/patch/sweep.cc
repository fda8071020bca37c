#include "interp/patch/sweep.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "interp/hook_names/hook_name.h"
#include "models/nn/nearest.h"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

struct AxisName {
  const char* name;
  Axis axis;
  const char* shown;
};
constexpr AxisName kAxisNames[] = {
    {"pos", Axis::kPos, "pos"},       {"query", Axis::kPos, "pos"},
    {"dest", Axis::kPos, "pos"},      {"head", Axis::kHead, "head"},
    {"key", Axis::kKey, "key"},       {"src", Axis::kKey, "key"},
    {"unit", Axis::kUnit, "unit"},    {"neuron", Axis::kUnit, "unit"},
    {"channel", Axis::kUnit, "unit"},
};

absl::StatusOr<std::set<Axis>> ParseBy(const std::string& by) {
  std::set<Axis> axes;
  std::vector<std::string> known = {"layer"};
  for (const AxisName& name : kAxisNames) known.push_back(name.name);
  for (const absl::string_view part : absl::StrSplit(by, '_')) {
    if (part == "layer") continue;
    const auto found = std::find_if(std::begin(kAxisNames), std::end(kAxisNames),
                                    [&](const AxisName& name) { return part == name.name; });
    if (found == std::end(kAxisNames)) {
      return absl::InvalidArgumentError(
          absl::StrCat("by '", by, "': '", part, "' is no axis", DidYouMean(part, known),
                       "; axes are ", absl::StrJoin(known, ", "), ", joined by '_'"));
    }
    axes.insert(found->axis);
  }
  return axes;
}

std::string WithoutHook(const std::string& name) {
  return absl::StrReplaceAll(name, {{"hook_", ""}});
}

bool IsEndOf(const std::string& end, const std::string& name) {
  return name == end || absl::EndsWith(name, absl::StrCat(".", end));
}

// The name within its block of the points that `kind` means.
absl::StatusOr<std::string> ResolveKind(const ResidualModel& model, const std::string& kind) {
  std::set<std::string> matches, known;
  for (const DeclaredHook& hook : HookPoints(model)) {
    const std::string within = SplitBlockName(hook.name).within;
    if (within == kind) return within;
    known.insert(WithoutHook(within));
    const std::string plain = WithoutHook(within);
    known.insert(plain.substr(plain.rfind('.') + 1));
    if (IsEndOf(WithoutHook(kind), plain)) matches.insert(within);
  }
  if (matches.empty() && SplitBlockName(kind).layer >= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", kind, "' is of one block, expected a kind of all of them, as '",
                     SplitBlockName(kind).within, "'"));
  }
  if (matches.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("the model has no kind of activation '", kind,
                                                   "'",
                                                   DidYouMean(kind, {known.begin(), known.end()})));
  }
  // A point outside the blocks gives way: "blocks.L.hook_..", not "ln_final.hook_..".
  if (matches.size() > 1) {
    return absl::InvalidArgumentError(absl::StrCat("the kind '", kind, "' may be ",
                                                   absl::StrJoin(matches, " or "), ": say which"));
  }
  return *matches.begin();
}

// The points of a kind, and their layers.
struct KindPoints {
  std::vector<std::string> names;
  std::vector<int64_t> layers;
  bool in_blocks = false;
};

absl::StatusOr<KindPoints> PointsOf(const ResidualModel& model, const std::string& kind) {
  RESIDUAL_ASSIGN_OR_RETURN(const std::string within, ResolveKind(model, kind));
  KindPoints found;
  for (const DeclaredHook& hook : HookPoints(model)) {
    const auto [layer, name] = SplitBlockName(hook.name);
    if (name != within || std::count(found.names.begin(), found.names.end(), hook.name) > 0) {
      continue;
    }
    if (layer >= 0) found.in_blocks = true;
    found.names.push_back(hook.name);
    found.layers.push_back(std::max(layer, 0));
  }
  return found;
}

absl::StatusOr<Sweep> PlanOne(PatchSession& session, const std::string& kind,
                              const std::string& by) {
  RESIDUAL_ASSIGN_OR_RETURN(const std::set<Axis> wanted, ParseBy(by));
  RESIDUAL_ASSIGN_OR_RETURN(const KindPoints of_kind, PointsOf(session.model(), kind));
  const std::vector<std::string>& names = of_kind.names;
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<const PatchPoint*> points, session.Plan(names));

  // The axes asked for, in the activation's order, and their sizes.
  const ActivationAxes& axes = points[0]->axes;
  std::vector<std::pair<int, const AxisName*>> order;
  for (const Axis axis : wanted) {
    const AxisName& name = *std::find_if(std::begin(kAxisNames), std::end(kAxisNames),
                                         [&](const AxisName& n) { return n.axis == axis; });
    if (axes.Place(axis) < 0) {
      return absl::InvalidArgumentError(absl::StrCat("by '", by, "': '", names[0], "' is ",
                                                     points[0]->hook.dims, ", without an axis '",
                                                     name.shown, "'"));
    }
    order.emplace_back(axes.Place(axis), &name);
  }
  std::sort(order.begin(), order.end());
  std::vector<int64_t> sizes = {of_kind.in_blocks ? session.model().n_layers() : 1};
  Sweep sweep;
  sweep.axes = {"layer"};
  for (const auto& [place, name] : order) {
    int64_t size = 0;
    for (const PatchPoint* point : points) size = std::max(size, point->any().dim(place));
    sizes.push_back(size);
    sweep.axes.push_back(name->shown);
  }
  sweep.shape = Shape(sizes);
  sweep.filling = std::numeric_limits<double>::quiet_NaN();

  const int64_t cells = sweep.shape.elements() / sizes[0];
  for (size_t p = 0; p < points.size(); ++p) {
    for (int64_t cell = 0; cell < cells; ++cell) {
      PatchCell patched{names[p]};
      bool inside = true;
      int64_t rest = cell;
      for (size_t i = order.size(); i-- > 0;) {
        const int64_t index = rest % sizes[i + 1];
        rest /= sizes[i + 1];
        inside = inside && index < points[p]->any().dim(order[i].first);
        patched.At(order[i].second->axis) = index;
      }
      if (!inside) continue;
      sweep.patches.push_back({{patched}});
      sweep.places.push_back(of_kind.layers[p] * cells + cell);
    }
  }
  return sweep;
}

// [kinds, layer, pos, head] of sweeps whose axes after the layer may be in another order and whose
// heads may be fewer.
absl::StatusOr<Sweep> Stacked(PatchSession& session, const std::vector<std::string>& kinds,
                              const std::string& by) {
  std::vector<std::string> names;  // of all kinds, so that one run reads them
  for (const std::string& kind : kinds) {
    RESIDUAL_ASSIGN_OR_RETURN(const KindPoints points, PointsOf(session.model(), kind));
    names.insert(names.end(), points.names.begin(), points.names.end());
  }
  RESIDUAL_RETURN_IF_ERROR(session.Plan(names).status());
  std::vector<Sweep> sweeps;
  for (const std::string& kind : kinds) {
    RESIDUAL_ASSIGN_OR_RETURN(Sweep sweep, PlanOne(session, kind, by));
    sweeps.push_back(std::move(sweep));
  }
  Sweep stack;
  stack.axes = {"kind"};
  stack.axes.insert(stack.axes.end(), sweeps[0].axes.begin(), sweeps[0].axes.end());
  const int rank = sweeps[0].shape.rank();
  // Axis i of the stack is axis from[s][i] of sweep s.
  std::vector<std::vector<int>> from;
  std::vector<int64_t> sizes = {static_cast<int64_t>(kinds.size())};
  for (const Sweep& sweep : sweeps) {
    from.emplace_back();
    for (const std::string& axis : sweeps[0].axes) {
      const auto found = std::find(sweep.axes.begin(), sweep.axes.end(), axis);
      from.back().push_back(static_cast<int>(found - sweep.axes.begin()));
    }
  }
  for (int i = 0; i < rank; ++i) {
    int64_t size = 0;
    for (size_t s = 0; s < sweeps.size(); ++s) size = std::max(size, sweeps[s].shape[from[s][i]]);
    sizes.push_back(size);
  }
  stack.shape = Shape(sizes);
  for (size_t s = 0; s < sweeps.size(); ++s) {
    Sweep& sweep = sweeps[s];
    for (size_t p = 0; p < sweep.patches.size(); ++p) {
      std::vector<int64_t> index(rank);
      int64_t rest = sweep.places[p];
      for (int i = rank; i-- > 0;) {
        index[i] = rest % sweep.shape[i];
        rest /= sweep.shape[i];
      }
      int64_t place = static_cast<int64_t>(s);
      for (int i = 0; i < rank; ++i) place = place * sizes[i + 1] + index[from[s][i]];
      stack.places.push_back(place);
      stack.patches.push_back(std::move(sweep.patches[p]));
    }
  }
  return stack;
}

}  // namespace

Tensor Sweep::ToTensor(const std::vector<double>& values) const {
  RESIDUAL_CHECK_EQ(values.size(), places.size());
  Tensor tensor = Tensor::Full(shape, filling);
  float* const out = tensor.mutable_data<float>();
  for (size_t i = 0; i < places.size(); ++i) out[places[i]] = static_cast<float>(values[i]);
  return tensor;
}

absl::StatusOr<Sweep> PlanSweep(PatchSession& session, const std::string& kind,
                                const std::string& by) {
  if (kind == "block_every") return Stacked(session, {"resid_pre", "attn_out", "mlp_out"}, by);
  if (kind == "head_every") return Stacked(session, {"z", "q", "k", "v", "pattern"}, by);
  return PlanOne(session, kind == "head_out" ? "z" : kind, by);
}

std::vector<double> Means(const std::vector<std::vector<double>>& values) {
  std::vector<double> means;
  means.reserve(values.size());
  for (const std::vector<double>& of_patch : values) {
    means.push_back(std::accumulate(of_patch.begin(), of_patch.end(), 0.0) /
                    static_cast<double>(of_patch.size()));
  }
  return means;
}

}  // namespace residual
