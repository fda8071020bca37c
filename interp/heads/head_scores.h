// What attention heads do, from where they look.
//
// On a passage of random tokens repeated once, a position i in the second copy has one earlier
// occurrence of its token, at i - n. Three patterns have names (Elhage et al. 2021; Olsson et al.
// 2022, appendix):
//   induction (prefix matching)  attends to i - n + 1, the token after the earlier occurrence
//   duplicate token              attends to i - n
//   previous token               attends to i - 1
// A score is the mean attention paid there. Random tokens have no statistics a head could use
// instead, so a high induction score means the match itself.

#ifndef RESIDUAL_INTERP_HEADS_HEAD_SCORES_H_
#define RESIDUAL_INTERP_HEADS_HEAD_SCORES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "models/nn/hook.h"
#include "models/stream/residual_model.h"
#include "tensor/core/tensor.h"

namespace residual {

// [layer][head]; a layer without attention has an empty row.
using HeadTable = std::vector<std::vector<double>>;

// [n_layers, n_heads] f32, as wide as the widest layer; NaN where a layer has no such head.
Tensor TableTensor(const HeadTable& table);

struct HeadScores {
  HeadTable induction;
  HeadTable previous_token;
  HeadTable duplicate_token;
};

// A head, or none.
struct HeadIndex {
  int layer = -1, head = -1;
  friend bool operator==(const HeadIndex& a, const HeadIndex& b) {
    return a.layer == b.layer && a.head == b.head;
  }
};

// The largest entry that is not NaN, and its head; 0 and none for an empty table.
struct BestHead {
  HeadIndex head;
  double score = 0;
};
BestHead Best(const HeadTable& table);

// `batch` rows of n tokens drawn uniformly from `vocabulary` (not empty), each row repeated once:
// i64 [batch, 2 n]. The vocabulary should be the tokens that occurred in training: a model knows
// nothing of the others.
Tensor RepeatedRandomTokens(int64_t batch, int64_t n, absl::Span<const int64_t> vocabulary,
                            uint64_t seed);

// The attention patterns of every layer on tokens [batch, pos]: [batch, n_heads, query, key] each,
// undefined for a layer without attention. NotFound if no layer has any. `ablated` heads are
// knocked out: they move nothing, as ZeroHeads says.
absl::StatusOr<std::vector<Tensor>> ReadPatterns(const ResidualModel& model, const Tensor& tokens,
                                                 const std::vector<HeadIndex>& ablated = {});

// The scores of every head of a model on tokens [batch, 2 n], n >= 2, made of two equal halves:
// means over rows and over the positions of the second half (previous token: over all positions
// but the first). InvalidArgument if the tokens do not fit the model or are not two equal halves.
absl::StatusOr<HeadScores> ScoreHeads(const ResidualModel& model, const Tensor& tokens,
                                      const std::vector<HeadIndex>& ablated = {});

// Adds edits that set the output of these heads to zero ("blocks.L.attn.hook_z"): they still look
// where they look, and move nothing.
void ZeroHeads(const std::vector<HeadIndex>& heads, Hooks& hooks);

// Adds edits that make every head look where it looked in a run before: patterns of ReadPatterns,
// on the same tokens.
void FreezePatterns(const std::vector<Tensor>& patterns, Hooks& hooks);

// The number of attention heads of each layer; 0 where a layer has none.
std::vector<int64_t> HeadsPerLayer(const ResidualModel& model);

// InvalidArgument names the first head that the model does not have.
absl::Status CheckHeads(const ResidualModel& model, const std::vector<HeadIndex>& heads);

// "L1H3".
std::string HeadName(const HeadIndex& head);

}  // namespace residual

#endif  // RESIDUAL_INTERP_HEADS_HEAD_SCORES_H_
