// Pictures of the phase change: curves of several trainings, and what is left of learning in
// context without the induction heads.

#ifndef RESIDUAL_INTERP_INDUCTION_PHASE_REPORT_H_
#define RESIDUAL_INTERP_INDUCTION_PHASE_REPORT_H_

#include <string>
#include <vector>

#include "interp/induction/study.h"
#include "interp/report/report.h"

namespace residual {

struct PhaseStudy {
  struct Curve {
    std::string name;
    int color = 0;  // of a Series
    std::vector<TrainingPoint> points;
  };
  std::vector<Curve> curves;        // at least one; the window of the first is shaded
  std::vector<std::string> smears;  // lines: what heads keep of each key
  AblationStudy ablations;          // of the first
};

void AddPhasePictures(const PhaseStudy& study, Report& report);

}  // namespace residual

#endif  // RESIDUAL_INTERP_INDUCTION_PHASE_REPORT_H_
