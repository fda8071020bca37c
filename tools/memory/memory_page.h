// The page of //tools:hippo: a signal, and what memories of a few numbers hold of it.

#ifndef RESIDUAL_TOOLS_MEMORY_MEMORY_PAGE_H_
#define RESIDUAL_TOOLS_MEMORY_MEMORY_PAGE_H_

#include <string>
#include <vector>

#include "interp/report/report.h"
#include "models/s4/memory_study.h"

namespace residual {

// Errors at the end of the signal, one for each size.
struct ErrorCurve {
  HippoMeasure measure;
  std::vector<double> errors;
};

struct MemoryFindings {
  std::string name;  // of the signal
  std::vector<double> signal;
  HippoMeasure measure;
  int64_t n = 0;
  std::vector<Remembered> over_time;  // rising; the last one at the end
  std::vector<int64_t> sizes;
  std::vector<ErrorCurve> curves;  // legs, legt, chebyshev, fourier, random
  std::vector<Remembered> at_end;  // of n numbers, as the curves
};

// over_time and at_end not empty, all vectors of one length (CHECKed).
Report MemoryPage(const MemoryFindings& findings);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_MEMORY_MEMORY_PAGE_H_
