// Learning rates over a run, as pure functions of the step.

#ifndef RESIDUAL_MODELS_TRAIN_SCHEDULE_H_
#define RESIDUAL_MODELS_TRAIN_SCHEDULE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace residual {

enum class ScheduleKind {
  kConstant,  // after the warm-up
  kLinear,    // to zero at total_steps, as transformers' get_linear_schedule_with_warmup
  kCosine,    // half a cosine to final_fraction at total_steps (transformers' at 0)
  kNoam,  // lr d_model^-0.5 min(t^-0.5, t warmup^-1.5), t = step + 1 (Vaswani et al. 2017, eq. 3)
  kOneCycle  // Smith and Topin 2018 in PyTorch's two-phase cosine form: up over the first 30 %
             // from lr / 25, down to lr / 250000
};

struct Schedule {
  ScheduleKind kind = ScheduleKind::kConstant;
  double lr = 1e-3;          // the peak; Noam: the factor
  int64_t warmup_steps = 0;  // linear from 0; not for one-cycle
  int64_t total_steps = 0;
  double final_fraction = 0;  // of lr, where a cosine ends
  int64_t d_model = 0;        // Noam

  // The rate of step 0, 1, ...; after total_steps the last one.
  double Rate(int64_t step) const;
  // The highest of all.
  double Peak() const;
};

// "constant", "linear", "cosine", "noam", "one_cycle".
std::optional<ScheduleKind> ScheduleKindFromName(absl::string_view name);
const char* ScheduleKindName(ScheduleKind kind);
std::vector<std::string> ScheduleKindNames();

}  // namespace residual

#endif  // RESIDUAL_MODELS_TRAIN_SCHEDULE_H_
