// The story of a study of induction heads as a page: what happened, which heads did it, how they
// are wired, the proof, the control, and pictures to point at.

#ifndef RESIDUAL_INTERP_INDUCTION_STUDY_REPORT_H_
#define RESIDUAL_INTERP_INDUCTION_STUDY_REPORT_H_

#include "interp/induction/study_summary.h"
#include "interp/report/report.h"

namespace residual {

Report InductionReport(const InductionStudy& study);

}  // namespace residual

#endif  // RESIDUAL_INTERP_INDUCTION_STUDY_REPORT_H_
