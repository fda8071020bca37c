// A paper's claims, put to the test: what an experiment is given and what it finds.

#ifndef RESIDUAL_TOOLS_EXPERIMENTS_EXPERIMENT_H_
#define RESIDUAL_TOOLS_EXPERIMENTS_EXPERIMENT_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "interp/report/report.h"
#include "nlohmann/json.hpp"

namespace residual {

// One statement as a number of ours. The bounds are part of the experiment, written down before it
// runs: the verdict is computed, not judged.
struct Claim {
  std::string claim;            // a sentence, with what is measured
  std::optional<double> paper;  // the paper's number; none where it gives none
  double ours = 0;
  double low = 0, high = 0;  // it holds if low <= ours <= high

  bool pass() const { return low <= ours && ours <= high; }  // NaN does not
};

// What was found: the claims, and a page that shows how.
struct Findings {
  std::vector<Claim> claims;
  Report report;
};

struct ExperimentOptions {
  bool quick = false;  // a smaller setting that still shows the claim, in minutes
  uint64_t seed = 0;
  std::string data;     // --data, or ""
  std::string config;   // --config, or ""
  std::string out;      // a folder that exists
  std::string program;  // argv[0], beside which the project's own text lies
  // A line for people: what is being done, what came of it.
  std::function<void(const std::string& line)> say;
};

struct Experiment {
  const char* name;     // "mamba_induction"
  const char* summary;  // one line
  absl::StatusOr<Findings> (*run)(const ExperimentOptions& options);
};

// {"name", "claims": [{"claim", "paper" (or null), "ours", "low", "high", "pass"}], "seconds",
// "report"}. Numbers that are not finite become null.
nlohmann::json FindingsJson(const std::string& name, const std::vector<Claim>& claims,
                            double seconds, const std::string& report);

// The claims as a table, put at the end of the page.
void AddClaims(const std::vector<Claim>& claims, Report& report);

// "FAILS  ours 0.83, expected 0.99 to 1 (paper 1)   Mamba ...", a line for each.
std::string ClaimLines(const std::vector<Claim>& claims);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_EXPERIMENTS_EXPERIMENT_H_
