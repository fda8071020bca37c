#include "interp/ablation/ablation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "ops/loss/cross_entropy.h"
#include "tensor/base/random.h"
#include "tensor/base/status_macros.h"

namespace residual {

absl::StatusOr<std::vector<double>> LossByPosition(const ResidualModel& model, const Tensor& tokens,
                                                   const Tensor& targets,
                                                   const std::vector<HeadIndex>& ablated,
                                                   const std::vector<Tensor>& frozen) {
  RESIDUAL_RETURN_IF_ERROR(CheckHeads(model, ablated));
  Hooks hooks;
  FreezePatterns(frozen, hooks);
  ZeroHeads(ablated, hooks);
  RESIDUAL_ASSIGN_OR_RETURN(const Tensor logits, model.Run({tokens}, &hooks));
  CrossEntropyOptions options;
  options.reduction = Reduction::kNone;
  const std::vector<double> losses = CrossEntropy(logits, targets, options).ToDoubles();
  const std::vector<double> ids = targets.ToDoubles();
  const int64_t batch = tokens.dim(0), pos = tokens.dim(1);
  std::vector<double> means(pos, std::numeric_limits<double>::quiet_NaN());
  for (int64_t p = 0; p < pos; ++p) {
    double sum = 0;
    int64_t count = 0;
    for (int64_t b = 0; b < batch; ++b) {
      if (ids[b * pos + p] == options.ignore_index) continue;
      sum += losses[b * pos + p];
      ++count;
    }
    if (count > 0) means[p] = sum / static_cast<double>(count);
  }
  return means;
}

double InContextScore(const std::vector<double>& loss_by_position) {
  const size_t n = loss_by_position.size();
  auto mean = [&](size_t begin, size_t end) {
    double sum = 0;
    size_t count = 0;
    for (size_t i = begin; i < end; ++i) {
      if (std::isnan(loss_by_position[i])) continue;
      sum += loss_by_position[i];
      ++count;
    }
    return count > 0 ? sum / static_cast<double>(count) : 0;
  };
  if (n < 2) return 0;
  const size_t early_end = std::max<size_t>(1, n / 8);
  return mean(std::min(n - 1, n - n / 8), n) - mean(std::min(n / 16, early_end - 1), early_end);
}

std::vector<std::vector<HeadIndex>> RandomHeadSets(const std::vector<HeadIndex>& candidates,
                                                   size_t size, size_t count, uint64_t seed) {
  std::vector<std::vector<HeadIndex>> sets;
  size = std::min(size, candidates.size());
  if (size == 0) return sets;
  const Philox random(seed, RandomStream("random heads"));
  uint64_t draw = 0;
  // A bounded number of tries: there may be fewer sets than asked for.
  for (size_t tries = 0; tries < 20 * count && sets.size() < count; ++tries) {
    std::vector<size_t> order(candidates.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    for (size_t i = 0; i < size; ++i) {  // Fisher-Yates, as far as needed
      std::swap(order[i], order[i + random.Below(draw++, order.size() - i)]);
    }
    std::sort(order.begin(), order.begin() + size);
    std::vector<HeadIndex> set;
    for (size_t i = 0; i < size; ++i) set.push_back(candidates[order[i]]);
    if (std::find(sets.begin(), sets.end(), set) == sets.end()) sets.push_back(std::move(set));
  }
  return sets;
}

}  // namespace residual
