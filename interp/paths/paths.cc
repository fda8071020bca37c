#include "interp/paths/paths.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "interp/patch/sweep.h"
#include "models/nn/nearest.h"
#include "ops/elementwise/elementwise.h"
#include "ops/layout/layout.h"
#include "ops/matmul/matmul.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

// When something is written or read: the mixers of a block one after the other.
struct When {
  int layer = -1, branch = 0;
};

struct Sender {
  When when;
  const PatchPoint* point = nullptr;
  int64_t head = PatchCell::kAll;
  Tensor W_O;  // of the head, [d_head, d_model]; undefined: the point is what is written
};

struct Receiver {
  enum Kind { kInside, kOutput, kNormIn, kStream } kind = kInside;
  When when;           // it reads what was written before
  std::string within;  // kInside: the point's name in its mixer
  const PatchPoint* point = nullptr;
  int64_t head = PatchCell::kAll;
};

std::string PointName(int layer, absl::string_view within) {
  return absl::StrCat("blocks.", layer, ".", within);
}

absl::StatusOr<std::map<std::string, DeclaredHook>> Declared(const ResidualModel& model) {
  for (int layer = 0; layer < model.n_layers(); ++layer) {
    const Block& block = model.block(layer);
    for (const Branch& branch : block.branches()) {
      if (block.placement() == NormPlacement::kPost && branch.norm.kind() != NormKind::kNone) {
        return absl::UnimplementedError(absl::StrCat(
            "the stream is no sum of what was written: block ", layer, " has the norm '",
            branch.norm_name, "' behind what its mixer '", branch.name, "' adds"));
      }
    }
  }
  std::map<std::string, DeclaredHook> declared;
  for (const DeclaredHook& hook : HookPoints(model)) declared[hook.name] = hook;
  return declared;
}

class Paths {
 public:
  Paths(PatchSession& session, const PathOptions& options)
      : session_(session), model_(session.model()), options_(options) {}

  absl::Status Resolve(absl::Span<const PathEnd> senders, absl::Span<const PathEnd> receivers);
  absl::StatusOr<PathEffects> Run(const Metric& metric);

 private:
  absl::Status CheckName(const std::string& name) const;
  absl::StatusOr<Sender> ResolveSender(const PathEnd& end) const;
  absl::StatusOr<Receiver> ResolveReceiver(const PathEnd& end) const;
  absl::Status CheckHead(const char* what, const PathEnd& end, const PatchPoint& point) const;
  Tensor Delta(const Sender& sender) const;
  // What the branch reads in the corrupted run.
  absl::StatusOr<Tensor> Read(const When& when);
  bool Before(const When& sender, const When& receiver) const;
  absl::Status RunReads(const std::vector<size_t>& receivers, const Metric& metric,
                        PathEffects& effects);

  PatchSession& session_;
  const ResidualModel& model_;
  const PathOptions options_;
  std::map<std::string, DeclaredHook> declared_;
  std::vector<Sender> senders_;
  std::vector<Receiver> receivers_;
};

absl::Status Paths::CheckName(const std::string& name) const {
  if (declared_.count(name) > 0) return absl::OkStatus();
  std::vector<std::string> all;
  for (const auto& [known, hook] : declared_) all.push_back(known);
  return absl::NotFoundError(
      absl::StrCat("the model has no hook point '", name, "'", DidYouMean(name, all)));
}

absl::StatusOr<Sender> Paths::ResolveSender(const PathEnd& end) const {
  Sender sender;
  sender.head = end.head;
  if (end.point == "hook_embed" ||
      (end.point == "hook_pos_embed" && model_.embed().positions_on_stream())) {
    return sender;
  }
  for (int layer = 0; layer < model_.n_layers(); ++layer) {
    const std::vector<Branch>& branches = model_.block(layer).branches();
    for (size_t i = 0; i < branches.size(); ++i) {
      sender.when = {layer, static_cast<int>(i)};
      if (end.point == PointName(layer, branches[i].out_name)) return sender;
      const std::string module = PointName(layer, absl::StrCat(branches[i].name, "."));
      if (end.point != module + "hook_z") continue;
      for (const Parameter& parameter : Parameters(const_cast<ResidualModel&>(model_))) {
        if (parameter.name != module + "W_O") continue;
        sender.W_O = ConvertTo(ToDisk(parameter, *parameter.value), model_.dtype());
        return sender;
      }
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("'", end.point, "' is not written to the stream, nor by heads with a W_O"));
}

absl::StatusOr<Receiver> Paths::ResolveReceiver(const PathEnd& end) const {
  Receiver receiver;
  receiver.head = end.head;
  for (int layer = 0; layer < model_.n_layers(); ++layer) {
    const Block& block = model_.block(layer);
    const std::string prefix = PointName(layer, "");
    if (!absl::StartsWith(end.point, prefix)) continue;
    receiver.within = end.point.substr(prefix.size());
    const int branches = static_cast<int>(block.branches().size());
    receiver.kind = Receiver::kStream;
    if (receiver.within == Block::kResidPre.name) {
      receiver.when = {layer, 0};
      return receiver;
    }
    if (receiver.within == Block::kResidMid.name && branches == 2) {
      receiver.when = {layer, 1};
      return receiver;
    }
    if (receiver.within == Block::kResidPost.name) {
      receiver.when = {layer + 1, 0};
      return receiver;
    }
    for (int i = 0; i < branches; ++i) {
      const Branch& branch = block.branches()[i];
      receiver.when = {layer, i};
      if (receiver.within == branch.out_name) {
        receiver.kind = Receiver::kOutput;
        return receiver;
      }
      if (receiver.within == absl::StrCat(branch.norm_name, ".", Norm::kIn.name)) {
        receiver.kind = Receiver::kNormIn;
        return receiver;
      }
      if (absl::StartsWith(receiver.within, absl::StrCat(branch.name, "."))) {
        receiver.kind = Receiver::kInside;
        receiver.within = receiver.within.substr(std::string(branch.name).size() + 1);
        return receiver;
      }
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "'", end.point, "' does not read the stream inside a block, and cannot receive a path"));
}

absl::Status Paths::CheckHead(const char* what, const PathEnd& end, const PatchPoint& point) const {
  if (end.head == PatchCell::kAll) return absl::OkStatus();
  if (point.axes.head < 0) {
    return absl::InvalidArgumentError(absl::StrCat(what, " '", end.point, "' is ", point.hook.dims,
                                                   " and has no head ", end.head));
  }
  const int64_t heads = point.clean.dim(point.axes.head);
  if (end.head < 0 || end.head >= heads) {
    return absl::InvalidArgumentError(absl::StrCat("head ", end.head, " of ", what, " '", end.point,
                                                   "' is outside [0, ", heads, ")"));
  }
  return absl::OkStatus();
}

absl::Status Paths::Resolve(absl::Span<const PathEnd> senders,
                            absl::Span<const PathEnd> receivers) {
  RESIDUAL_ASSIGN_OR_RETURN(declared_, Declared(model_));
  std::vector<std::string> names;
  for (const absl::Span<const PathEnd>& ends : {senders, receivers}) {
    for (const PathEnd& end : ends) {
      RESIDUAL_RETURN_IF_ERROR(CheckName(end.point));
      names.push_back(end.point);
    }
  }
  for (const PathEnd& end : senders) {
    RESIDUAL_ASSIGN_OR_RETURN(Sender sender, ResolveSender(end));
    senders_.push_back(std::move(sender));
  }
  for (const PathEnd& end : receivers) {
    RESIDUAL_ASSIGN_OR_RETURN(Receiver receiver, ResolveReceiver(end));
    receivers_.push_back(std::move(receiver));
  }
  // The streams that are read, with the points: all in one run.
  for (int layer = 0; layer < model_.n_layers(); ++layer) {
    names.push_back(PointName(layer, Block::kResidPre.name));
    names.push_back(PointName(layer, Block::kResidPost.name));
    const std::vector<Branch>& branches = model_.block(layer).branches();
    for (size_t i = 0; i + 1 < branches.size(); ++i) {
      names.push_back(PointName(layer, branches[i].out_name));
    }
  }
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<const PatchPoint*> points, session_.Points(names));
  for (size_t i = 0; i < senders.size(); ++i) {
    Sender& sender = senders_[i];
    sender.point = points[i];
    RESIDUAL_RETURN_IF_ERROR(CheckHead("sender", senders[i], *sender.point));
    if (sender.W_O.defined() && sender.head != PatchCell::kAll) {
      const Tensor& all = sender.W_O;  // [n_heads, d_head, d_model]
      sender.W_O = all.Rows(sender.head, sender.head + 1).Reshaped({all.dim(1), all.dim(2)});
    }
  }
  for (size_t i = 0; i < receivers.size(); ++i) {
    receivers_[i].point = points[senders.size() + i];
    RESIDUAL_RETURN_IF_ERROR(CheckHead("receiver", receivers[i], *receivers_[i].point));
  }
  return absl::OkStatus();
}

Tensor Paths::Delta(const Sender& sender) const {
  const Tensor difference = Sub(sender.point->clean, sender.point->corrupted);
  if (!sender.W_O.defined()) return difference;
  const int64_t batch = difference.dim(0), positions = difference.dim(1);
  if (sender.head == PatchCell::kAll) {  // all heads side by side
    const int64_t width = difference.dim(2) * difference.dim(3);
    return MatMul(difference.Reshaped({batch, positions, width}),
                  sender.W_O.Reshaped({width, model_.d_model()}));
  }
  const Tensor of_head = Slice(difference, 2, sender.head, sender.head + 1);
  return MatMul(of_head.Reshaped({batch, positions, difference.dim(3)}), sender.W_O);
}

absl::StatusOr<Tensor> Paths::Read(const When& when) {
  if (when.layer == model_.n_layers()) {
    RESIDUAL_ASSIGN_OR_RETURN(const auto last,
                              session_.Points({PointName(when.layer - 1, Block::kResidPost.name)}));
    return last[0]->corrupted;
  }
  const Block& block = model_.block(when.layer);
  std::vector<std::string> names = {PointName(when.layer, Block::kResidPre.name)};
  for (int i = 0; i < when.branch && !block.parallel(); ++i) {
    names.push_back(PointName(when.layer, block.branches()[i].out_name));
  }
  RESIDUAL_ASSIGN_OR_RETURN(const auto points, session_.Points(names));
  Tensor read = points[0]->corrupted;
  for (size_t i = 1; i < points.size(); ++i) read = Add(read, points[i]->corrupted);
  return read;
}

bool Paths::Before(const When& sender, const When& receiver) const {
  if (sender.layer != receiver.layer) return sender.layer < receiver.layer;
  return sender.branch < receiver.branch && !model_.block(sender.layer).parallel();
}

// The receivers read the stream at the same place: one stack of senders serves them all.
absl::Status Paths::RunReads(const std::vector<size_t>& receivers, const Metric& metric,
                             PathEffects& effects) {
  const When when = receivers_[receivers[0]].when;
  const int64_t batch = session_.batch(), positions = session_.positions();
  RESIDUAL_ASSIGN_OR_RETURN(const Tensor read, Read(when));
  std::vector<size_t> senders;
  for (size_t s = 0; s < senders_.size(); ++s) {
    if (Before(senders_[s].when, when)) senders.push_back(s);
  }
  const size_t at_once = static_cast<size_t>(
      std::max<int64_t>(1, options_.rows_at_once / std::max<int64_t>(1, batch * positions)));
  for (size_t begin = 0; begin < senders.size(); begin += at_once) {
    const size_t count = std::min(at_once, senders.size() - begin);
    std::vector<Tensor> streams;
    std::vector<int64_t> rows;
    for (size_t i = 0; i < count; ++i) {
      streams.push_back(Add(read, Delta(senders_[senders[begin + i]])));
      for (int64_t b = 0; b < batch; ++b) rows.push_back(b);
    }
    const Tensor stacked = Concat(streams, 0);

    std::map<size_t, Tensor> got;  // by receiver, [count * batch, ...]
    Hooks hooks;
    bool inside = false;
    for (const size_t r : receivers) {
      const Receiver& receiver = receivers_[r];
      if (receiver.kind == Receiver::kStream || receiver.kind == Receiver::kNormIn) {
        got[r] = stacked;
        continue;
      }
      inside = true;
      if (receiver.kind == Receiver::kInside) {
        hooks.Read(receiver.within, [&got, r](absl::string_view, const Tensor& x) { got[r] = x; });
      }
    }
    if (inside) {
      const Branch& branch = model_.block(when.layer).branches()[when.branch];
      const ModelInput input = SelectRows(session_.corrupted(), rows);
      MixerContext context = model_.MakeContext(input);
      context.layer = when.layer;
      // As ResidualModel::Stream gives them to its blocks.
      if (model_.embed().has_table() && !model_.embed().positions_on_stream()) {
        context.query_key_positions = model_.embed().PositionRows(context.positions);
      }
      Tensor normalized;
      if (options_.frozen_norm && branch.norm.kind() != NormKind::kNone) {
        Tensor scale;
        Hooks keep, freeze;
        keep.Read(Norm::kScale.name, [&](absl::string_view, const Tensor& x) { scale = x; });
        branch.norm.Forward(read, Scope(&keep));
        freeze.Edit(Norm::kScale.name, [&](absl::string_view, const Tensor&) {
          return Concat(std::vector<Tensor>(count, scale), 0);
        });
        normalized = branch.norm.Forward(stacked, Scope(&freeze));
      } else {
        normalized = branch.norm.Forward(stacked, Scope());
      }
      const Tensor out = branch.mixer->Forward(normalized, context, nullptr, Scope(&hooks));
      for (const size_t r : receivers) {
        if (receivers_[r].kind == Receiver::kOutput) got[r] = out;
      }
    }

    std::vector<Patch> patches;
    for (size_t i = 0; i < count; ++i) {
      for (const size_t r : receivers) {
        const Receiver& receiver = receivers_[r];
        PatchCell cell{receiver.point->hook.name};
        cell.head = receiver.head;
        if (!got[r].defined()) {
          return absl::FailedPreconditionError(
              absl::StrCat("'", cell.point, "' did not fire in its mixer"));
        }
        cell.value =
            Slice(got[r], 0, static_cast<int64_t>(i) * batch, static_cast<int64_t>(i + 1) * batch);
        patches.push_back({{std::move(cell)}});
      }
    }
    RESIDUAL_ASSIGN_OR_RETURN(auto values, session_.Run(patches, metric));
    for (size_t i = 0; i < count; ++i) {
      for (size_t k = 0; k < receivers.size(); ++k) {
        effects.values[senders[begin + i]][receivers[k]] =
            std::move(values[i * receivers.size() + k]);
        effects.connected[senders[begin + i]][receivers[k]] = true;
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<PathEffects> Paths::Run(const Metric& metric) {
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<double> corrupted, session_.Corrupted(metric));
  PathEffects effects;
  effects.values.assign(senders_.size(),
                        std::vector<std::vector<double>>(receivers_.size(), corrupted));
  effects.connected.assign(senders_.size(), std::vector<bool>(receivers_.size(), false));
  std::map<std::pair<int, int>, std::vector<size_t>> by_read;
  for (size_t r = 0; r < receivers_.size(); ++r) {
    by_read[{receivers_[r].when.layer, receivers_[r].when.branch}].push_back(r);
  }
  for (const auto& [when, receivers] : by_read) {
    RESIDUAL_RETURN_IF_ERROR(RunReads(receivers, metric, effects));
  }
  return effects;
}

}  // namespace

absl::StatusOr<PathEffects> PatchPaths(PatchSession& session, absl::Span<const PathEnd> senders,
                                       absl::Span<const PathEnd> receivers, const Metric& metric,
                                       const PathOptions& options) {
  RESIDUAL_RETURN_IF_ERROR(
      CheckMetric(metric, session.model(), session.batch(), session.positions()));
  Paths paths(session, options);
  RESIDUAL_RETURN_IF_ERROR(paths.Resolve(senders, receivers));
  return paths.Run(metric);
}

std::vector<PathEnd> AllSenders(PatchSession& session) {
  const ResidualModel& model = session.model();
  std::vector<PathEnd> senders = {{"hook_embed"}};
  if (model.embed().positions_on_stream()) senders.push_back({"hook_pos_embed"});
  std::map<std::string, int64_t> heads;  // of a module with a W_O [n_heads, d_head, d_model]
  for (const Parameter& parameter : Parameters(const_cast<ResidualModel&>(model))) {
    absl::string_view name = parameter.name;
    if (absl::ConsumeSuffix(&name, "W_O") && DiskShape(parameter).rank() == 3) {
      heads[std::string(name)] = DiskShape(parameter)[0];
    }
  }
  for (int layer = 0; layer < model.n_layers(); ++layer) {
    for (const Branch& branch : model.block(layer).branches()) {
      const std::string module = PointName(layer, absl::StrCat(branch.name, "."));
      const auto found = heads.find(module);
      if (found == heads.end()) {
        senders.push_back({PointName(layer, branch.out_name)});
        continue;
      }
      for (int64_t h = 0; h < found->second; ++h) senders.push_back({module + "hook_z", h});
    }
  }
  return senders;
}

absl::StatusOr<std::vector<PathEnd>> AllReceivers(PatchSession& session, const std::string& kind) {
  RESIDUAL_ASSIGN_OR_RETURN(Sweep sweep, PlanSweep(session, kind, "layer"));
  std::vector<PathEnd> receivers;
  for (const Patch& patch : sweep.patches) {
    const std::string& name = patch.cells[0].point;
    RESIDUAL_ASSIGN_OR_RETURN(const auto points, session.Points({name}));
    if (points[0]->axes.head < 0) {
      receivers.push_back({name});
      continue;
    }
    const int64_t heads = points[0]->clean.dim(points[0]->axes.head);
    for (int64_t h = 0; h < heads; ++h) receivers.push_back({name, h});
  }
  return receivers;
}

}  // namespace residual
