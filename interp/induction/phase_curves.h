// What the curves of a training say of its phase change (Olsson et al. 2022, "In-context learning
// and induction heads").

#ifndef RESIDUAL_INTERP_INDUCTION_PHASE_CURVES_H_
#define RESIDUAL_INTERP_INDUCTION_PHASE_CURVES_H_

#include <cstddef>
#include <vector>

#include "interp/induction/study.h"

namespace residual {

// What one model's curves say. Measurements are numbered as they were taken, 0 before training.
struct PhaseNumbers {
  PhaseChange window;        // of the best induction score
  double window_share = 0;   // of all training, in tokens
  double icl_in_window = 0;  // share of the last in-context score that came about in it
  // Between which two measurements the curves change most: the later one of them.
  size_t steepest_prefix = 0, steepest_icl = 0;
};
PhaseNumbers ReadCurves(const std::vector<TrainingPoint>& points);
// The steepest fall of the loss from one measurement of the window to the next, nats; 0 without a
// window, or where the loss only rises.
double SteepestFall(const std::vector<TrainingPoint>& points, const PhaseChange& window);
// The same over the fall just before the window (mean of two, where there are as many): at most 1
// where the curve is convex. 0 also if the window begins before there is such a fall.
double LossBend(const std::vector<TrainingPoint>& points, const PhaseChange& window);
// Tokens until the best induction score is first at least this; infinite if it never is.
double TokensUntil(const std::vector<TrainingPoint>& points, double induction);

}  // namespace residual

#endif  // RESIDUAL_INTERP_INDUCTION_PHASE_CURVES_H_
