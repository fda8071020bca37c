// The effects of queries and keys with the softmax made anew (AtP*'s QK fix, see attribution.h).
// Private to the package.

#ifndef RESIDUAL_INTERP_ATTRIBUTION_PATCH_QK_FIX_H_
#define RESIDUAL_INTERP_ATTRIBUTION_PATCH_QK_FIX_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "interp/patch/session.h"
#include "tensor/core/tensor.h"

namespace residual {

// What belongs to a point of queries or keys: those it meets, and the pattern they make. `queries`:
// it is one of queries. Empty names for any other point.
struct QueryKeyPoint {
  bool queries = false;
  std::string other, pattern;
};
QueryKeyPoint QueryKeyPointOf(const std::string& point);

// The effects of all parts of one such point on one of the session's runs.
class QueryKeyEffects {
 public:
  // Points is to know the point and what it meets, on both runs. The mixer itself makes the scores:
  // rotations, masks and groups of heads are its own.
  static QueryKeyEffects Of(PatchSession& session, PatchRun which, const std::string& point);

  // By example; gradient: dm/dp, [batch, n_heads, query, key]. The cell has no unit.
  std::vector<double> Effect(const PatchCell& cell, absl::Span<const double> gradient) const;

 private:
  bool queries_ = false;
  int64_t batch_ = 0, heads_ = 0, groups_ = 0, positions_ = 0;
  std::vector<double> scores_, others_;  // [batch, n_heads, query, key], of q or k, and of q' or k'
};

}  // namespace residual

#endif  // RESIDUAL_INTERP_ATTRIBUTION_PATCH_QK_FIX_H_
