#include "interp/patch/plain_patch.h"

#include <numeric>

#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"

namespace residual {

Tensor EditPlainly(const PlainEdit& edit, const Tensor& x) {
  RESIDUAL_CHECK(x.shape() == edit.clean.shape() && x.dtype() == edit.clean.dtype())
      << edit.cell.ToString() << " of " << edit.clean.ToString() << " into " << x.ToString();
  Tensor edited = x.Clone();
  VisitDType(x.dtype(), [&](auto tag) {
    using T = decltype(tag);
    T* const to = edited.mutable_data<T>();
    const T* const from = edit.clean.data<T>();
    for (int64_t i = 0; i < x.elements(); ++i) {
      bool inside = true;
      int64_t rest = i;
      for (int axis = x.rank() - 1; axis >= 0; --axis) {
        const int64_t index = rest % x.dim(axis);
        rest /= x.dim(axis);
        for (const Axis kind : {Axis::kPos, Axis::kHead, Axis::kKey, Axis::kUnit}) {
          if (edit.axes.Place(kind) == axis && edit.cell.At(kind) != PatchCell::kAll) {
            inside = inside && edit.cell.At(kind) == index;
          }
        }
      }
      if (inside) to[i] = from[i];
    }
  });
  return edited;
}

absl::StatusOr<std::vector<double>> PatchPlainly(const ResidualModel& model,
                                                 const ModelInput& corrupted,
                                                 absl::Span<const PlainEdit> edits,
                                                 const Metric& metric) {
  Hooks hooks;
  for (const PlainEdit& edit : edits) {
    hooks.Edit(edit.cell.point,
               [&edit](absl::string_view, const Tensor& x) { return EditPlainly(edit, x); });
  }
  ModelInput input = corrupted;
  input.last_logits = 0;  // points after the blocks hold all positions, as the clean ones do
  RESIDUAL_ASSIGN_OR_RETURN(Tensor logits, model.Run(input, &hooks));
  std::vector<int64_t> examples(logits.dim(0));
  std::iota(examples.begin(), examples.end(), int64_t{0});
  return metric.value(logits, examples);
}

}  // namespace residual
