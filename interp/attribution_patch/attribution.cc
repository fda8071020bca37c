#include "interp/attribution_patch/attribution.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "interp/attribution_patch/gradients.h"
#include "interp/attribution_patch/qk_fix.h"
#include "interp/patch/activation_axes.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

void AddName(const std::string& name, std::vector<std::string>& names) {
  if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
}

// Adds (a' - a) . gradient of the cell to every example.
class Products {
 public:
  Products(const PatchPoint& point, PatchRun which) : point_(point) {
    const PatchRun other = which == PatchRun::kClean ? PatchRun::kCorrupted : PatchRun::kClean;
    const std::vector<double> from = point.of(which).ToDoubles();
    differences_ = point.of(other).ToDoubles();
    for (size_t i = 0; i < from.size(); ++i) {
      // 0 where both are -infinity: a score that is hidden stays hidden.
      differences_[i] = differences_[i] == from[i] ? 0 : differences_[i] - from[i];
    }
  }

  void Add(const PatchCell& cell, absl::Span<const double> gradient,
           std::vector<double>& by_example) const {
    const Shape& shape = point_.any().shape();
    constexpr DType kByElement = kF64;
    const int64_t element = static_cast<int64_t>(SizeOf(kByElement));
    for (size_t e = 0; e < by_example.size(); ++e) {
      const CellView view{&shape, static_cast<int64_t>(e)};
      const int64_t positions = point_.axes.pos < 0 ? 1 : shape[point_.axes.pos];
      ForEachStretch(cell, point_.axes, kByElement, view, view, 1, 0, positions,
                     [&](int64_t at, int64_t, int64_t bytes) {
                       for (int64_t i = at / element; i < (at + bytes) / element; ++i) {
                         by_example[e] += differences_[i] * gradient[i];
                       }
                     });
    }
  }

 private:
  const PatchPoint& point_;
  std::vector<double> differences_;
};

}  // namespace

absl::StatusOr<std::vector<std::vector<double>>> AttributePatches(
    PatchSession& session, absl::Span<const Patch> patches, const Metric& metric,
    const AttributionOptions& options) {
  const int64_t batch = session.batch();
  RESIDUAL_RETURN_IF_ERROR(CheckMetric(metric, session.model(), batch, session.positions()));
  if (!metric.differentiable) {
    return absl::InvalidArgumentError(
        absl::StrCat("the metric '", metric.name, "' has no gradient"));
  }
  const int layers = session.model().n_layers();
  if (options.grad_drop && layers < 2) {
    return absl::InvalidArgumentError(absl::StrCat(
        "GradDrop averages over other layers than the point's, and the model has ", layers));
  }

  // Where gradients are taken, and what else is to be known of the run.
  std::vector<std::string> names, through, read;
  for (const Patch& patch : patches) {
    for (const PatchCell& cell : patch.cells) {
      if (names.empty() || names.back() != cell.point) AddName(cell.point, names);
    }
  }
  const auto is_fixed = [&](const std::string& name) {
    return options.qk_fix && !QueryKeyPointOf(name).pattern.empty();
  };
  for (const std::string& name : names) {
    if (is_fixed(name)) {
      AddName(QueryKeyPointOf(name).pattern, through);
      AddName(name, read);
      AddName(QueryKeyPointOf(name).other, read);
    } else {
      AddName(name, through);
    }
  }
  std::vector<std::string> all = through;
  for (const std::string& name : read) AddName(name, all);
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<const PatchPoint*> planned, session.Plan(all));
  for (size_t i = 0; i < all.size(); ++i) {
    if (planned[i]->layer >= 0) continue;
    return absl::UnimplementedError(absl::StrCat(
        "attribution of '", all[i], "', which is outside the blocks, is not supported"));
  }
  for (const Patch& patch : patches) {
    for (const PatchCell& cell : patch.cells) {
      RESIDUAL_RETURN_IF_ERROR(session.CheckCell(cell));
      if (cell.value.defined()) {
        return absl::InvalidArgumentError(
            absl::StrCat("attribution is of the other run's '", cell.point, "', not of a value"));
      }
      if (cell.unit != PatchCell::kAll && is_fixed(cell.point)) {
        return absl::InvalidArgumentError(absl::StrCat("the QK fix is of whole heads, not of unit ",
                                                       cell.unit, " of '", cell.point, "'"));
      }
    }
  }

  PointGradients gradients;
  if (options.grad_drop) {
    RESIDUAL_ASSIGN_OR_RETURN(gradients, GradientsWithDrops(session, options.run, through, metric));
  } else {
    gradients = GradientsAt(session, options.run, through, read, metric);
  }
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<const PatchPoint*> points, session.Points(all));
  std::map<std::string, const PatchPoint*> point_of;
  for (size_t i = 0; i < all.size(); ++i) point_of[all[i]] = points[i];

  // [drop][patch][example]; without GradDrop there is one, of the whole gradient.
  const size_t drops = options.grad_drop ? layers : 1;
  std::vector<std::vector<std::vector<double>>> effects(
      drops, std::vector<std::vector<double>>(patches.size(), std::vector<double>(batch, 0)));
  std::map<std::string, std::vector<std::pair<size_t, const PatchCell*>>> cells;  // by point
  for (size_t p = 0; p < patches.size(); ++p) {
    for (const PatchCell& cell : patches[p].cells) cells[cell.point].emplace_back(p, &cell);
  }
  for (const std::string& name : names) {
    const bool fixed = is_fixed(name);
    const std::string at = fixed ? QueryKeyPointOf(name).pattern : name;
    QueryKeyEffects query_key;
    if (fixed) query_key = QueryKeyEffects::Of(session, options.run, name);
    const Products products(*point_of[name], options.run);
    for (size_t d = 0; d < drops; ++d) {
      const std::vector<double> gradient = gradients.at(at)[d].ToDoubles();
      for (const auto& [p, cell] : cells[name]) {
        if (!fixed) {
          products.Add(*cell, gradient, effects[d][p]);
          continue;
        }
        const std::vector<double> effect = query_key.Effect(*cell, gradient);
        for (int64_t e = 0; e < batch; ++e) effects[d][p][e] += effect[e];
      }
    }
  }
  if (!options.grad_drop) return std::move(effects[0]);
  std::vector<std::vector<double>> scores(patches.size(), std::vector<double>(batch, 0));
  for (size_t d = 0; d < drops; ++d) {
    for (size_t p = 0; p < patches.size(); ++p) {
      for (int64_t e = 0; e < batch; ++e) {
        scores[p][e] += std::abs(effects[d][p][e]) / (layers - 1);
      }
    }
  }
  return scores;
}

}  // namespace residual
