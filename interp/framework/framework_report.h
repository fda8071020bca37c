// The page of the framework experiment: what models of no, one and two layers look like inside.

#ifndef RESIDUAL_INTERP_FRAMEWORK_FRAMEWORK_REPORT_H_
#define RESIDUAL_INTERP_FRAMEWORK_FRAMEWORK_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "interp/framework/measures.h"
#include "interp/report/report.h"

namespace residual {

// What was trained, and on what.
struct FrameworkSetup {
  std::string text_name;
  int64_t tokens = 0;                   // of the text
  std::vector<std::string> vocabulary;  // the text of each token
  int64_t d_model = 0, n_heads = 0, context = 0, batch_size = 0, steps = 0;
  double repeat = 0;  // the part of the windows that are a passage repeated
};

Report FrameworkReport(const FrameworkSetup& setup, const FrameworkMeasures& measures);

}  // namespace residual

#endif  // RESIDUAL_INTERP_FRAMEWORK_FRAMEWORK_REPORT_H_
