#include "interp/patch/session.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "interp/hook_names/hook_name.h"
#include "interp/patch/patch_pass.h"
#include "interp/patch/plain_patch.h"
#include "models/nn/nearest.h"
#include "ops/elementwise/elementwise.h"
#include "ops/layout/layout.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"
#include "tensor/core/first_nan.h"

namespace residual {
namespace {

bool LooksAtOnePosition(const Mixer& mixer) { return mixer.NewState(0) == nullptr; }

// Whether what a point holds for a position matters, within its block, to that position alone.
bool IsLocal(const Block& block, const std::string& within, bool local_in_mixer) {
  if (within == Block::kResidPost.name) return true;
  if (within == Block::kResidPre.name) return block.PositionWiseFrom(0);
  if (within == Block::kResidMid.name) return block.PositionWiseFrom(1);
  for (size_t i = 0; i < block.branches().size(); ++i) {
    const Branch& branch = block.branches()[i];
    const bool after = block.parallel() || block.PositionWiseFrom(i + 1);
    if (within == branch.out_name) return after;
    const bool through = after && LooksAtOnePosition(*branch.mixer);
    if (absl::StartsWith(within, absl::StrCat(branch.name, "."))) {
      return through || (after && local_in_mixer);
    }
    if (absl::StartsWith(within, absl::StrCat(branch.norm_name, "."))) {
      return block.placement() == NormPlacement::kPre ? through : after;
    }
  }
  return false;
}

absl::Status Prefixed(const char* what, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(what, ": ", status.message()));
}

}  // namespace

PatchSession::PatchSession(const ResidualModel& model, const ModelInput& clean,
                           const ModelInput& corrupted, const PatchOptions& options)
    : model_(model), clean_(clean), corrupted_(corrupted), options_(options) {
  for (const DeclaredHook& hook : HookPoints(model)) declared_[hook.name] = hook;
  for (int layer = 0; layer < model.n_layers(); ++layer) {
    for (const Branch& branch : model.block(layer).branches()) {
      causal_ = causal_ && branch.mixer->causal();
    }
  }
}

absl::StatusOr<PatchSession> PatchSession::Create(const ResidualModel& model,
                                                  const ModelInput& clean,
                                                  const ModelInput& corrupted,
                                                  const PatchOptions& options) {
  const absl::Status clean_fits = model.Validate(clean);
  if (!clean_fits.ok()) return Prefixed("clean", clean_fits);
  const absl::Status corrupted_fits = model.Validate(corrupted);
  if (!corrupted_fits.ok()) return Prefixed("corrupted", corrupted_fits);
  if (clean.tokens.shape() != corrupted.tokens.shape()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "clean prompts are ", clean.tokens.shape().ToString(), " and corrupted ones ",
        corrupted.tokens.shape().ToString(), ", expected pairs of equal length [batch, pos]"));
  }
  if (clean.segments.defined() || corrupted.segments.defined()) {
    return absl::InvalidArgumentError("prompts that are packed into rows cannot be patched");
  }
  ModelInput whole[2] = {clean, corrupted};
  for (ModelInput& input : whole) input.last_logits = 0;
  return PatchSession(model, whole[0], whole[1], options);
}

Tensor PatchSession::StreamsAndStates(Tensor resid, const MixerContext& context,
                                      const Scope& scope) {
  streams_ = {resid};
  states_.clear();
  for (int layer = 0; layer < model_.n_layers(); ++layer) {
    std::vector<BlockState> blocks(model_.n_layers());
    if (causal_) blocks[layer] = model_.block(layer).NewState(batch());
    ModelState state(0, std::move(blocks));
    resid = model_.Stream(resid, {layer, layer + 1}, context, causal_ ? &state : nullptr, scope);
    streams_.push_back(resid);
    states_.emplace_back();
    for (const auto& mixer : state.blocks()[layer]) {
      states_.back().push_back(mixer == nullptr ? nullptr : mixer->Fork());
    }
  }
  return resid;
}

void PatchSession::Make(PatchRun which, const std::vector<std::string>& names) {
  std::vector<std::string> missing;
  for (const std::string& name : names) {
    if (!points_[name].of(which).defined()) missing.push_back(name);
  }
  Tensor& end = which == PatchRun::kClean ? clean_end_ : corrupted_end_;
  if (missing.empty() && end.defined()) return;
  Hooks hooks;
  for (const std::string& name : missing) {
    hooks.Read(name,
               [&, which](absl::string_view, const Tensor& x) { points_[name].of(which) = x; });
  }
  const Scope scope(&hooks);
  const MixerContext context = model_.MakeContext(input(which));
  const Tensor embedded = model_.EmbedTokens(input(which), context, scope);
  end = which == PatchRun::kCorrupted
            ? StreamsAndStates(embedded, context, scope)
            : model_.Stream(embedded, {0, model_.n_layers()}, context, nullptr, scope);
  const bool after = std::any_of(missing.begin(), missing.end(), [this](const std::string& name) {
    return points_[name].layer < 0;
  });
  if (after) model_.UnembedStream(end, scope);
}

PatchSession::Taped PatchSession::RunOnTape(PatchRun which, const std::vector<std::string>& through,
                                            const std::vector<std::string>& read) {
  Taped run;
  run.handles.resize(through.size());
  Hooks hooks;
  for (size_t i = 0; i < through.size(); ++i) {
    RESIDUAL_CHECK(points_.at(through[i]).layer >= 0) << through[i];
    // Through a handle of its own: the activation may also go where an edit would not follow it (a
    // norm's scale is made of what it divides).
    hooks.Edit(through[i], [this, which, &run, i](absl::string_view name, const Tensor& x) {
      points_[std::string(name)].of(which) = x;
      return run.handles[i] = Scale(x, 1);
    });
  }
  for (const std::string& name : read) {
    hooks.Read(name, [this, which, &name](absl::string_view, const Tensor& x) {
      points_.at(name).of(which) = x;
    });
  }
  const Scope scope(&hooks);
  const MixerContext context = model_.MakeContext(input(which));
  Tensor resid = model_.EmbedTokens(input(which), context, scope);
  Tape* const tape = Tape::Current();
  RESIDUAL_CHECK(tape != nullptr) << "a run on a tape, and there is none";
  tape->Watch(resid);
  run.resid = model_.Stream(resid, {0, model_.n_layers()}, context, nullptr, scope);
  (which == PatchRun::kClean ? clean_end_ : corrupted_end_) = run.resid;
  return run;
}

absl::Status PatchSession::Declare(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (points_.count(name) > 0) continue;
    const auto declared = declared_.find(name);
    if (declared == declared_.end()) {
      std::vector<std::string> all;
      for (const auto& [known, hook] : declared_) all.push_back(known);
      return absl::NotFoundError(
          absl::StrCat("the model has no hook point '", name, "'", DidYouMean(name, all)));
    }
    RESIDUAL_ASSIGN_OR_RETURN(const ActivationAxes axes, AxesOf(name, declared->second.dims));
    PatchPoint& point = points_[name];
    point.hook = declared->second;
    point.axes = axes;
    const auto [layer, within] = SplitBlockName(name);
    point.layer = layer;
    point.local = layer >= 0 && IsLocal(model_.block(layer), within, point.hook.local);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<const PatchPoint*>> PatchSession::Found(
    const std::vector<std::string>& names, bool both) const {
  std::vector<const PatchPoint*> found;
  for (const std::string& name : names) {
    const PatchPoint& point = points_.at(name);
    for (const PatchRun which : {PatchRun::kClean, PatchRun::kCorrupted}) {
      if (!both && which != options_.plan_on) continue;
      const Tensor& x = point.of(which);
      const char* const run = which == PatchRun::kClean ? "clean" : "corrupted";
      if (!x.defined()) {
        return absl::FailedPreconditionError(
            absl::StrCat("'", name, "' did not fire in the ", run, " run"));
      }
      if (x.rank() != point.axes.rank || x.dim(0) != batch()) {
        return absl::InternalError(
            absl::StrCat("'", name, "' is ", x.ToString(), ", but declared ", point.hook.dims));
      }
      if (FirstNaN(x).has_value()) {
        return absl::FailedPreconditionError(
            absl::StrCat("the ", run, " run's '", name, "' holds NaN"));
      }
    }
    found.push_back(&point);
  }
  return found;
}

absl::StatusOr<std::vector<const PatchPoint*>> PatchSession::Plan(
    const std::vector<std::string>& names) {
  RESIDUAL_RETURN_IF_ERROR(Declare(names));
  Make(options_.plan_on, names);
  return Found(names, /*both=*/false);
}

absl::StatusOr<std::vector<const PatchPoint*>> PatchSession::Points(
    const std::vector<std::string>& names) {
  RESIDUAL_RETURN_IF_ERROR(Declare(names));
  Make(PatchRun::kClean, names);
  Make(PatchRun::kCorrupted, names);
  return Found(names, /*both=*/true);
}

absl::StatusOr<std::vector<double>> PatchSession::MetricOf(const Tensor& resid,
                                                           const Metric& metric,
                                                           const char* which) const {
  RESIDUAL_RETURN_IF_ERROR(CheckMetric(metric, model_, batch(), positions()));
  std::vector<int64_t> examples(batch());
  std::iota(examples.begin(), examples.end(), int64_t{0});
  const std::vector<double> values = MetricReader(model_, metric).Read(resid, examples);
  for (size_t i = 0; i < values.size(); ++i) {
    if (!std::isnan(values[i])) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("the ", metric.name, " of the ", which, " run of example ", i, " is NaN"));
  }
  return values;
}

absl::StatusOr<std::vector<double>> PatchSession::Clean(const Metric& metric) {
  Make(PatchRun::kClean, {});
  return MetricOf(clean_end_, metric, "clean");
}

absl::StatusOr<std::vector<double>> PatchSession::Corrupted(const Metric& metric) {
  Make(PatchRun::kCorrupted, {});
  return MetricOf(corrupted_end_, metric, "corrupted");
}

Tensor PatchSession::CleanLogits() {
  Make(PatchRun::kClean, {});
  const Tensor last = Slice(clean_end_, 1, positions() - 1, positions());
  return model_.UnembedStream(last, Scope()).Reshaped({batch(), model_.d_vocab()});
}

absl::Status PatchSession::CheckCell(const PatchCell& cell) const {
  const PatchPoint& point = points_.at(cell.point);
  const std::pair<Axis, const char*> axes[] = {{Axis::kPos, "position"},
                                               {Axis::kHead, "head"},
                                               {Axis::kKey, "key position"},
                                               {Axis::kUnit, "unit"}};
  for (const auto& [axis, name] : axes) {
    const int64_t index = cell.At(axis);
    if (index == PatchCell::kAll) continue;
    const int place = point.axes.Place(axis);
    if (place < 0) {
      return absl::InvalidArgumentError(absl::StrCat("'", cell.point, "' is ", point.hook.dims,
                                                     " and has no ", name, " ", index));
    }
    if (index < 0 || index >= point.any().dim(place)) {
      return absl::InvalidArgumentError(absl::StrCat(
          name, " ", index, " of '", cell.point, "' is outside [0, ", point.any().dim(place), ")"));
    }
  }
  if (cell.value.defined() &&
      (cell.value.shape() != point.any().shape() || cell.value.dtype() != point.any().dtype())) {
    return absl::InvalidArgumentError(absl::StrCat("a value for '", cell.point, "' is ",
                                                   cell.value.ToString(), ", expected ",
                                                   point.any().ToString()));
  }
  return absl::OkStatus();
}

absl::Status PatchSession::Prepare(absl::Span<const Patch> patches,
                                   absl::Span<const int64_t> indices, const Metric& metric) {
  RESIDUAL_RETURN_IF_ERROR(CheckMetric(metric, model_, batch(), positions()));
  std::vector<std::string> names;
  for (const int64_t index : indices) {
    for (const PatchCell& cell : patches[index].cells) {
      if (names.empty() || names.back() != cell.point) names.push_back(cell.point);
    }
  }
  RESIDUAL_RETURN_IF_ERROR(Points(names).status());
  for (const int64_t index : indices) {
    for (const PatchCell& cell : patches[index].cells) RESIDUAL_RETURN_IF_ERROR(CheckCell(cell));
  }
  RESIDUAL_RETURN_IF_ERROR(Corrupted(metric).status());
  if (streams_.empty()) {  // the run was made on a tape
    const MixerContext context = model_.MakeContext(corrupted_);
    StreamsAndStates(model_.EmbedTokens(corrupted_, context, Scope()), context, Scope());
  }
  return absl::OkStatus();
}

std::vector<StackedRun> PatchSession::RunsOf(absl::Span<const Patch> patches,
                                             absl::Span<const int64_t> indices,
                                             const Metric& metric) {
  std::vector<StackedRun> runs;
  for (size_t i = 0; i < indices.size(); ++i) {
    StackedRun run;
    run.index = static_cast<int64_t>(i);
    run.start = positions();
    for (const PatchCell& cell : patches[indices[i]].cells) {
      const PatchPoint& point = points_.at(cell.point);
      const StackedEdit edit{&cell, &point};
      const int64_t first = FirstDifference(cell, point.axes, edit.value(), point.corrupted);
      if (first >= (point.axes.pos < 0 ? 1 : point.clean.dim(point.axes.pos))) continue;
      run.start = std::min(run.start, causal_ && point.axes.pos >= 0 ? first : 0);
      run.edits.push_back(edit);
    }
    if (run.edits.empty()) continue;  // changes nothing
    run.layer = run.edits[0].point->layer;
    for (const StackedEdit& edit : run.edits) run.layer = std::min(run.layer, edit.point->layer);
    run.local = run.edits.size() == 1 && run.edits[0].point->local &&
                run.edits[0].cell->pos != PatchCell::kAll;
    // What the last block makes of a position that is not read.
    if (run.local && run.layer + 1 == model_.n_layers() &&
        run.edits[0].cell->pos < positions() - metric.positions) {
      continue;
    }
    run.start = run.layer < 0 ? 0 : std::min(run.start, positions() - metric.positions);
    runs.push_back(std::move(run));
  }
  return runs;
}

absl::StatusOr<std::vector<std::vector<int64_t>>> PatchSession::Units(
    absl::Span<const Patch> patches, const Metric& metric) {
  std::vector<int64_t> all(patches.size());
  std::iota(all.begin(), all.end(), int64_t{0});
  RESIDUAL_RETURN_IF_ERROR(Prepare(patches, all, metric));
  std::vector<StackedRun> runs = RunsOf(patches, all, metric);
  // Layer by layer: patches of a layer share their block, and lower ones run through more.
  std::stable_sort(runs.begin(), runs.end(), [](const StackedRun& a, const StackedRun& b) {
    return std::tie(a.layer, a.start) < std::tie(b.layer, b.start);
  });
  int64_t total = 0;
  for (const StackedRun& run : runs) total += batch() * (positions() - run.start);
  const int64_t count = std::max<int64_t>(1, total / options_.unit_positions);
  const int64_t each = (total + count - 1) / count;
  std::vector<std::vector<int64_t>> units;
  int64_t done = 0;
  for (const StackedRun& run : runs) {
    if (done >= each * static_cast<int64_t>(units.size())) units.emplace_back();
    units.back().push_back(run.index);
    done += batch() * (positions() - run.start);
  }
  return units;
}

absl::StatusOr<std::vector<std::vector<double>>> PatchSession::RunTogether(
    absl::Span<const Patch> patches, absl::Span<const int64_t> unit, const Metric& metric,
    const std::function<void(double)>& progress) {
  RESIDUAL_RETURN_IF_ERROR(Prepare(patches, unit, metric));
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<double> corrupted, Corrupted(metric));
  std::vector<std::vector<double>> values(unit.size(), corrupted);
  std::vector<StackedRun> inside;
  double outside = 0;
  for (StackedRun& run : RunsOf(patches, unit, metric)) {
    if (run.layer >= 0) {
      inside.push_back(std::move(run));
      continue;
    }
    std::vector<PlainEdit> edits;
    for (const StackedEdit& edit : run.edits) {
      edits.push_back({*edit.cell, edit.point->axes, edit.value()});
    }
    RESIDUAL_ASSIGN_OR_RETURN(values[run.index], PatchPlainly(model_, corrupted_, edits, metric));
    progress(++outside);
  }
  const MetricReader reader(model_, metric);
  PatchPass pass(*this, metric.positions);
  pass.Run(
      std::move(inside),
      [&](absl::Span<const int64_t> indices, const Tensor& resid) {
        std::vector<int64_t> examples;
        for (size_t i = 0; i < indices.size(); ++i) {
          for (int64_t e = 0; e < batch(); ++e) examples.push_back(e);
        }
        const std::vector<double> read = reader.Read(resid, examples);
        for (size_t i = 0; i < indices.size(); ++i) {
          values[indices[i]].assign(read.begin() + i * batch(), read.begin() + (i + 1) * batch());
        }
      },
      [&](double done) { progress(outside + done); });
  return values;
}

absl::StatusOr<std::vector<std::vector<double>>> PatchSession::RunUnit(
    absl::Span<const Patch> patches, absl::Span<const int64_t> unit, const Metric& metric) {
  return RunTogether(patches, unit, metric, [&](double done) {
    if (options_.progress) options_.progress(done, static_cast<double>(unit.size()));
  });
}

absl::StatusOr<std::vector<std::vector<double>>> PatchSession::Run(absl::Span<const Patch> patches,
                                                                   const Metric& metric) {
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<std::vector<int64_t>> units, Units(patches, metric));
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<double> corrupted, Corrupted(metric));
  std::vector<std::vector<double>> values(patches.size(), corrupted);
  double all = 0, before = 0;
  for (const std::vector<int64_t>& unit : units) all += static_cast<double>(unit.size());
  for (const std::vector<int64_t>& unit : units) {
    RESIDUAL_ASSIGN_OR_RETURN(std::vector<std::vector<double>> of_unit,
                              RunTogether(patches, unit, metric, [&](double done) {
                                if (options_.progress) options_.progress(before + done, all);
                              }));
    for (size_t i = 0; i < unit.size(); ++i) values[unit[i]] = std::move(of_unit[i]);
    before += static_cast<double>(unit.size());
  }
  return values;
}

}  // namespace residual
