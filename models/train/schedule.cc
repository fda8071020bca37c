#include "models/train/schedule.h"

#include <algorithm>
#include <cmath>

namespace residual {
namespace {

struct Entry {
  const char* name;
  ScheduleKind kind;
};
constexpr Entry kKinds[] = {
    {"constant", ScheduleKind::kConstant},  {"linear", ScheduleKind::kLinear},
    {"cosine", ScheduleKind::kCosine},      {"noam", ScheduleKind::kNoam},
    {"one_cycle", ScheduleKind::kOneCycle},
};

// From `start` to `end` along half a cosine; fraction in [0, 1].
double Anneal(double start, double end, double fraction) {
  return end + (start - end) / 2 * (1 + std::cos(M_PI * fraction));
}

double OneCycle(double peak, double step, double total) {
  const double up = std::max(1.0, 0.3 * total - 1), down = std::max(1.0, total - 1 - up);
  if (step <= up) return Anneal(peak / 25, peak, step / up);
  return Anneal(peak, peak / 25 / 1e4, std::min(1.0, (step - up) / down));
}

}  // namespace

double Schedule::Rate(int64_t step) const {
  const double s = static_cast<double>(step), warm = static_cast<double>(warmup_steps);
  if (kind == ScheduleKind::kNoam) {
    const double t = s + 1;
    const double rise = warm > 0 ? t * std::pow(warm, -1.5) : std::pow(t, -0.5);
    return lr * std::pow(static_cast<double>(d_model), -0.5) * std::min(std::pow(t, -0.5), rise);
  }
  if (kind == ScheduleKind::kOneCycle) return OneCycle(lr, s, static_cast<double>(total_steps));
  if (step < warmup_steps) return lr * s / warm;
  if (kind == ScheduleKind::kConstant) return lr;
  const double length = std::max<double>(1, static_cast<double>(total_steps - warmup_steps));
  const double progress = std::min(1.0, (s - warm) / length);
  if (kind == ScheduleKind::kLinear) return lr * (1 - progress);
  return lr * (final_fraction + (1 - final_fraction) * 0.5 * (1 + std::cos(M_PI * progress)));
}

double Schedule::Peak() const {
  // Noam: where rise and fall meet, or the first step.
  if (kind == ScheduleKind::kNoam) return Rate(std::max<int64_t>(0, warmup_steps - 1));
  return lr;
}

std::optional<ScheduleKind> ScheduleKindFromName(absl::string_view name) {
  for (const Entry& entry : kKinds) {
    if (name == entry.name) return entry.kind;
  }
  return std::nullopt;
}

const char* ScheduleKindName(ScheduleKind kind) {
  for (const Entry& entry : kKinds) {
    if (kind == entry.kind) return entry.name;
  }
  return "?";
}

std::vector<std::string> ScheduleKindNames() {
  std::vector<std::string> names;
  for (const Entry& entry : kKinds) names.push_back(entry.name);
  return names;
}

}  // namespace residual
