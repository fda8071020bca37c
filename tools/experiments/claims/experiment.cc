#include "tools/experiments/claims/experiment.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace residual {
namespace {

using nlohmann::json;

json Finite(double x) { return std::isfinite(x) ? json(x) : json(); }

// Four digits: enough to see, few enough to read.
std::string Short(double x) { return absl::StrFormat("%.4g", x); }

// "0.99 to 1", "at least 3", "at most 0.6"
std::string Bounds(const Claim& claim) {
  if (std::isinf(claim.high)) return "at least " + Short(claim.low);
  if (std::isinf(claim.low)) return "at most " + Short(claim.high);
  return absl::StrCat(Short(claim.low), " to ", Short(claim.high));
}

}  // namespace

json FindingsJson(const std::string& name, const std::vector<Claim>& claims, double seconds,
                  const std::string& report) {
  json list = json::array();
  for (const Claim& claim : claims) {
    list.push_back({{"claim", claim.claim},
                    {"paper", claim.paper ? Finite(*claim.paper) : json()},
                    {"ours", Finite(claim.ours)},
                    // A missing bound as the largest number there is: it must compare.
                    {"low", std::isinf(claim.low) ? -1e308 : claim.low},
                    {"high", std::isinf(claim.high) ? 1e308 : claim.high},
                    {"pass", claim.pass()}});
  }
  return {{"name", name}, {"claims", list}, {"seconds", seconds}, {"report", report}};
}

void AddClaims(const std::vector<Claim>& claims, Report& report) {
  report.Section("The claims");
  Table table;
  table.caption = "A claim holds if our number lies within bounds that were set before.";
  table.columns = {{"claim", false}, {"paper"}, {"ours"}, {"expected", false}, {"verdict", false}};
  for (const Claim& claim : claims) {
    table.rows.push_back({{claim.claim},
                          {claim.paper ? Short(*claim.paper) : std::string("–")},
                          {Short(claim.ours)},
                          {Bounds(claim)},
                          {claim.pass() ? Html("holds") : Strong("fails")}});
  }
  report.AddTable(table);
}

std::string ClaimLines(const std::vector<Claim>& claims) {
  std::string lines;
  for (const Claim& claim : claims) {
    absl::StrAppend(&lines, claim.pass() ? "holds  " : "FAILS  ", claim.claim, ": ",
                    Short(claim.ours), ", expected ", Bounds(claim));
    if (claim.paper) absl::StrAppend(&lines, " (paper ", Short(*claim.paper), ")");
    absl::StrAppend(&lines, "\n");
  }
  return lines;
}

}  // namespace residual
