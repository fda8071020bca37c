#include "interp/induction/phase_curves.h"

#include <algorithm>
#include <limits>

namespace residual {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

PhaseNumbers ReadCurves(const std::vector<TrainingPoint>& points) {
  PhaseNumbers n;
  double rise = -kInfinity, fall = -kInfinity;
  for (size_t i = 1; i < points.size(); ++i) {
    const double up = points[i].best_induction - points[i - 1].best_induction;
    const double down = points[i - 1].icl_score - points[i].icl_score;
    if (up > rise) {
      rise = up;
      n.steepest_prefix = i;
    }
    if (down > fall) {
      fall = down;
      n.steepest_icl = i;
    }
  }
  n.window = FindPhaseChange(points);
  if (!n.window.found()) return n;
  const TrainingPoint &first = points[n.window.first], &last = points[n.window.last];
  n.window_share =
      static_cast<double>(last.tokens - first.tokens) / static_cast<double>(points.back().tokens);
  n.icl_in_window = (last.icl_score - first.icl_score) / points.back().icl_score;
  return n;
}

double SteepestFall(const std::vector<TrainingPoint>& points, const PhaseChange& window) {
  double steepest = 0;
  // The loss of a point is that of the steps before it, so there is none at 0.
  for (size_t i = std::max<size_t>(2, window.first + 1); i <= window.last; ++i) {
    steepest = std::max(steepest, points[i - 1].loss - points[i].loss);
  }
  return steepest;
}

double LossBend(const std::vector<TrainingPoint>& points, const PhaseChange& window) {
  if (window.first < 2) return 0;
  const size_t first = window.first, before = std::max<size_t>(1, first - 2);
  const double then =
      (points[before].loss - points[first].loss) / static_cast<double>(first - before);
  return SteepestFall(points, window) / std::max(then, 1e-9);
}

double TokensUntil(const std::vector<TrainingPoint>& points, double induction) {
  for (const TrainingPoint& point : points) {
    if (point.best_induction >= induction) return static_cast<double>(point.tokens);
  }
  return kInfinity;
}

}  // namespace residual
