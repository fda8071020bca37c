// What experiments share that have a plan and several seeds.

#ifndef RESIDUAL_TOOLS_EXPERIMENTS_CLAIMS_PLAN_H_
#define RESIDUAL_TOOLS_EXPERIMENTS_CLAIMS_PLAN_H_

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "models/checkpoint/config_reader.h"
#include "nlohmann/json.hpp"
#include "tensor/base/status_macros.h"

namespace residual {

// `plan` with the members of the JSON object in the file `config` put over it (--config); as it is
// if that is "". Beside the plan there is ChangedPlan(plan, changes, source), which does so, and
// whose InvalidArgument names the member, what was found and what is expected.
template <class Plan>
absl::StatusOr<Plan> PlanWith(Plan plan, const std::string& config) {
  if (config.empty()) return plan;
  RESIDUAL_ASSIGN_OR_RETURN(const nlohmann::json changes, ReadJsonObject(config, size_t{1} << 20));
  return ChangedPlan(std::move(plan), changes, config);
}

// The number of the run, of one for each seed, that is worst for a claim; a NaN is worst of all.
template <class Run, class Number>
double LeastOf(const std::vector<Run>& runs, const Number& number) {
  double least = std::numeric_limits<double>::infinity();
  for (const Run& run : runs) {
    const double value = number(run);
    if (std::isnan(value)) return value;
    least = std::min(least, value);
  }
  return least;
}
template <class Run, class Number>
double MostOf(const std::vector<Run>& runs, const Number& number) {
  return -LeastOf(runs, [&](const Run& run) { return -number(run); });
}

}  // namespace residual

#endif  // RESIDUAL_TOOLS_EXPERIMENTS_CLAIMS_PLAN_H_
