#include "interp/attribution_patch/gradients.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ops/elementwise/elementwise.h"
#include "ops/layout/layout.h"
#include "ops/reduce/reduce.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

// So many copies of the rows behind one another.
Tensor Times(const Tensor& x, int64_t times) { return Concat(std::vector<Tensor>(times, x), 0); }

ModelInput Times(const ModelInput& input, int64_t times) {
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < times * input.tokens.dim(0); ++i) rows.push_back(i % input.tokens.dim(0));
  return SelectRows(input, rows);
}

std::string PreOf(int layer) { return absl::StrCat("blocks.", layer, ".", Block::kResidPre.name); }

// x, of whose rows from `from` on no gradient comes.
Tensor Held(const Tensor& x, int64_t from) {
  const Tensor constant = Slice(x, 0, from, x.dim(0)).Clone();
  return from == 0 ? constant : Concat({Slice(x, 0, 0, from), constant}, 0);
}

// One block forward on its stream, and back from the gradients behind it, [groups * batch, pos,
// d_model]; the last group's is of the run with this layer dropped, if `drops`. Returns what goes
// on to the block below.
struct BlockWalk {
  const PatchSession& session;
  const ModelInput& input;
  int layer;
  const Tensor& stream;
  std::vector<std::string> points;  // of this layer

  Tensor Back(const Tensor& behind, bool drops, std::vector<Tensor>& at_points) const {
    const ResidualModel& model = session.model();
    const int64_t batch = session.batch(), groups = behind.dim(0) / batch;
    Hooks hooks;
    std::vector<Tensor> handles(points.size());
    for (size_t i = 0; i < points.size(); ++i) {
      hooks.Edit(points[i], [&handles, i](absl::string_view, const Tensor& x) {
        return handles[i] = Scale(x, 1);
      });
    }
    // Behind the handles: what a point of the dropped layer adds goes nowhere.
    for (const Branch& branch : model.block(layer).branches()) {
      if (!drops) break;
      hooks.Edit(absl::StrCat("blocks.", layer, ".", branch.out_name),
                 [&](absl::string_view, const Tensor& x) { return Held(x, (groups - 1) * batch); });
    }
    const Scope scope(&hooks);
    Tape tape;
    Tensor before = Times(stream, groups);
    tape.Watch(before);
    const ModelInput rows = Times(input, groups);
    const Tensor after =
        model.Stream(before, {layer, layer + 1}, model.MakeContext(rows), nullptr, scope);
    std::vector<Tensor> also;
    for (const Tensor& handle : handles) {
      if (tape.Tracks(handle)) also.push_back(handle);
    }
    const Gradients gradients = tape.Backward({after}, {behind}, also);
    for (const Tensor& handle : handles) {
      at_points.push_back(tape.Tracks(handle) ? gradients[handle]
                                              : Tensor::Zeros(handle.shape(), handle.dtype()));
    }
    return gradients[before];
  }
};

int LayerOf(PatchSession& session, const std::string& point) {
  return (*session.Plan({point}))[0]->layer;
}

}  // namespace

PointGradients GradientsAt(PatchSession& session, PatchRun which,
                           const std::vector<std::string>& points,
                           const std::vector<std::string>& read, const Metric& metric) {
  PointGradients found;
  const MetricReader reader(session.model(), metric);
  Tape tape;
  const PatchSession::Taped run = session.RunOnTape(which, points, read);
  std::vector<Tensor> also;
  for (const Tensor& handle : run.handles) {
    if (tape.Tracks(handle)) also.push_back(handle);
  }
  const Gradients gradients = tape.Backward(SumAll(reader.Differentiable(run.resid)), also);
  for (size_t i = 0; i < points.size(); ++i) {
    const Tensor& handle = run.handles[i];
    found[points[i]] = {tape.Tracks(handle) ? gradients[handle]
                                            : Tensor::Zeros(handle.shape(), handle.dtype())};
  }
  return found;
}

absl::StatusOr<PointGradients> GradientsWithDrops(PatchSession& session, PatchRun which,
                                                  const std::vector<std::string>& points,
                                                  const Metric& metric, int64_t positions_at_once) {
  const ResidualModel& model = session.model();
  const int layers = model.n_layers();
  const int64_t batch = session.batch();
  std::vector<std::vector<std::string>> by_layer(layers);
  for (const std::string& point : points) {
    by_layer[LayerOf(session, point)].push_back(point);
  }
  std::vector<std::string> names;
  for (int layer = 0; layer < layers; ++layer) names.push_back(PreOf(layer));
  names.push_back(absl::StrCat("blocks.", layers - 1, ".", std::string(Block::kResidPost.name)));
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<const PatchPoint*> streams, session.Points(names));

  Tensor behind;  // [groups * batch, pos, d_model]: undropped, then of each layer dropped so far
  {
    const MetricReader reader(model, metric);
    Tape tape;
    Tensor end = streams[layers]->of(which);
    tape.Watch(end);
    behind = tape.Backward(SumAll(reader.Differentiable(end)))[end];
  }
  PointGradients found;
  for (const std::string& point : points) found[point].resize(layers);
  const int64_t at_once = std::max<int64_t>(1, positions_at_once / (batch * session.positions()));
  for (int layer = layers - 1; layer >= 0; --layer) {
    // This layer's own is behind the block what that of the whole run is.
    behind = Concat({behind, Slice(behind, 0, 0, batch)}, 0);
    const int64_t groups = behind.dim(0) / batch;
    const BlockWalk walk{session, session.input(which), layer, streams[layer]->of(which),
                         by_layer[layer]};
    std::vector<Tensor> below;
    for (int64_t begin = 0; begin < groups; begin += at_once) {
      const int64_t end = std::min(groups, begin + at_once);
      std::vector<Tensor> at_points;
      below.push_back(
          walk.Back(Slice(behind, 0, begin * batch, end * batch), end == groups, at_points));
      for (size_t i = 0; i < walk.points.size(); ++i) {
        std::vector<Tensor>& of_point = found[walk.points[i]];
        for (int64_t group = begin; group < end; ++group) {
          const Tensor gradient =
              Slice(at_points[i], 0, (group - begin) * batch, (group - begin + 1) * batch);
          if (group > 0) {  // behind the first they are of the layers from the last one down
            of_point[layers - group] = gradient;
          } else {  // nothing here depends on layers below
            std::fill_n(of_point.begin(), layer, gradient);
          }
        }
      }
    }
    behind = Concat(below, 0);
  }
  return found;
}

}  // namespace residual
