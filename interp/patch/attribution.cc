#include "interp/patch/attribution.h"

#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "interp/patch/activation_axes.h"
#include "ops/elementwise/elementwise.h"
#include "ops/reduce/reduce.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/status_macros.h"

namespace residual {

absl::StatusOr<std::vector<std::vector<double>>> AttributePatches(PatchSession& session,
                                                                  absl::Span<const Patch> patches,
                                                                  const Metric& metric,
                                                                  GradientRun gradient) {
  const ResidualModel& model = session.model();
  const int64_t batch = session.batch(), positions = session.positions();
  RESIDUAL_RETURN_IF_ERROR(CheckMetric(metric, model, batch, positions));
  if (!metric.differentiable) {
    return absl::InvalidArgumentError(
        absl::StrCat("the metric '", metric.name, "' has no gradient"));
  }
  std::vector<std::string> names;
  std::map<std::string, const PatchPoint*> points;
  for (const Patch& patch : patches) {
    for (const PatchCell& cell : patch.cells) {
      if (points.emplace(cell.point, nullptr).second) names.push_back(cell.point);
    }
  }
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<const PatchPoint*> found, session.Points(names));
  for (size_t i = 0; i < names.size(); ++i) {
    if (found[i]->layer < 0) {
      return absl::UnimplementedError(absl::StrCat(
          "attribution of '", names[i], "', which is outside the blocks, is not supported"));
    }
    points[names[i]] = found[i];
  }
  for (const Patch& patch : patches) {
    for (const PatchCell& cell : patch.cells) {
      RESIDUAL_RETURN_IF_ERROR(session.CheckCell(cell));
      if (cell.value.defined()) {
        return absl::InvalidArgumentError(
            absl::StrCat("attribution is of the clean run's '", cell.point, "', not of a value"));
      }
    }
  }

  // One run forward and backward. Examples do not meet, so the gradient of the sum holds those of
  // each.
  const bool on_clean = gradient == GradientRun::kClean;
  const ModelInput& input = on_clean ? session.clean() : session.corrupted();
  std::map<std::string, Tensor> gradients;
  {
    std::vector<Tensor> read(names.size());
    Hooks hooks;
    for (size_t i = 0; i < names.size(); ++i) {
      // Through a handle of its own: the activation may also go where an edit would not follow it
      // (a norm's scale is made of what it divides).
      hooks.Edit(names[i],
                 [&read, i](absl::string_view, const Tensor& x) { return read[i] = Scale(x, 1); });
    }
    const Scope scope(&hooks);
    Tape tape;
    const MixerContext context = model.MakeContext(input);
    Tensor resid = model.EmbedTokens(input, context, Scope());
    tape.Watch(resid);
    resid = model.Stream(resid, {0, model.n_layers()}, context, nullptr, scope, metric.positions);
    const Tensor logits = model.UnembedStream(resid, Scope());
    const Gradients found_gradients = tape.Backward(SumAll(metric.differentiable(logits)), read);
    for (size_t i = 0; i < names.size(); ++i) gradients[names[i]] = found_gradients[read[i]];
  }

  std::vector<std::vector<double>> values(patches.size(), std::vector<double>(batch, 0));
  for (const std::string& name : names) {
    // (a_clean - a_corrupted) . g, or with the other sign, in double.
    const PatchPoint& point = *points[name];
    const std::vector<double> to = (on_clean ? point.corrupted : point.clean).ToDoubles();
    const std::vector<double> from = (on_clean ? point.clean : point.corrupted).ToDoubles();
    std::vector<double> product = gradients[name].ToDoubles();
    // The gradient may be of the last positions alone, where others change nothing.
    const Shape& shape = point.clean.shape();
    const Shape& read_shape = gradients[name].shape();
    const int64_t first =
        point.axes.pos < 0 ? 0 : shape[point.axes.pos] - read_shape[point.axes.pos];
    const DType by_element = kF64;
    const int64_t element = static_cast<int64_t>(SizeOf(by_element));
    {
      const PatchCell everything{name};
      ForEachStretch(everything, point.axes, by_element, {&shape, 0, 0}, {&read_shape, 0, first},
                     batch, 0, positions, [&](int64_t whole_at, int64_t read_at, int64_t bytes) {
                       for (int64_t i = 0; i < bytes / element; ++i) {
                         // 0 where both are -infinity: a score that is hidden stays hidden.
                         const double a = to[whole_at / element + i];
                         const double b = from[whole_at / element + i];
                         product[read_at / element + i] *= a == b ? 0 : a - b;
                       }
                     });
    }
    for (size_t p = 0; p < patches.size(); ++p) {
      for (const PatchCell& cell : patches[p].cells) {
        if (cell.point != name) continue;
        for (int64_t e = 0; e < batch; ++e) {
          ForEachStretch(cell, point.axes, by_element, {&read_shape, e, first},
                         {&read_shape, e, first}, 1, 0, positions,
                         [&](int64_t at, int64_t, int64_t bytes) {
                           for (int64_t i = 0; i < bytes / element; ++i) {
                             values[p][e] += product[at / element + i];
                           }
                         });
        }
      }
    }
  }
  return values;
}

}  // namespace residual
