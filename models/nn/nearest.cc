#include "models/nn/nearest.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace residual {

int EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<int> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 0; i < a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i) + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const int replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({row[j] + 1, row[j + 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

std::vector<std::string> NearestNames(absl::string_view name, const std::vector<std::string>& names,
                                      int count) {
  const int limit = std::max<int>(2, static_cast<int>(name.size()) / 2);
  std::vector<std::pair<int, std::string>> ranked;
  for (const std::string& candidate : names) {
    const int distance = EditDistance(name, candidate);
    if (distance <= limit) ranked.emplace_back(distance, candidate);
  }
  std::sort(ranked.begin(), ranked.end());
  std::vector<std::string> nearest;
  for (const auto& [distance, candidate] : ranked) {
    if (static_cast<int>(nearest.size()) == count) break;
    nearest.push_back(candidate);
  }
  return nearest;
}

std::string DidYouMean(absl::string_view name, const std::vector<std::string>& names) {
  const std::vector<std::string> nearest = NearestNames(name, names);
  if (nearest.empty()) return "";
  return absl::StrCat("; did you mean '", absl::StrJoin(nearest, "', '"), "'?");
}

}  // namespace residual
