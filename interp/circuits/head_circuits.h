// The circuits of a model's heads, from its weights by their names (Elhage et al. 2021).
//
// Row vectors, as the weights lie: a stream x is read by queries x W_Q and keys x W_K, and head h
// moves x_j W_V W_O to position i.
//   QK = W_Q W_K^T   which position is attended to
//   OV = W_V W_O     what is moved
// A norm's gain is part of what a head reads, so it is folded into W_Q, W_K and W_V, and that of
// the final norm into W_U; centring is folded where the norm centres.

#ifndef RESIDUAL_INTERP_CIRCUITS_HEAD_CIRCUITS_H_
#define RESIDUAL_INTERP_CIRCUITS_HEAD_CIRCUITS_H_

#include <vector>

#include "Eigen/Core"
#include "absl/status/statusor.h"
#include "interp/circuits/factored_matrix.h"
#include "interp/heads/head_scores.h"
#include "models/stream/residual_model.h"

namespace residual {

struct HeadCircuits {
  // Folded, double. [layer][head]; a layer without attention has none.
  struct Head {
    Eigen::MatrixXd W_Q, W_K, W_V;  // [d_model, d_head]
    Eigen::MatrixXd W_O;            // [d_head, d_model]
    FactoredMatrix QK() const { return {W_Q, W_K.transpose()}; }
    FactoredMatrix OV() const { return {W_V, W_O}; }
  };
  std::vector<std::vector<Head>> heads;
  Eigen::MatrixXd W_E;  // [d_vocab, d_model]
  Eigen::MatrixXd W_U;  // [d_model, d_vocab], the final norm folded in

  // W_E OV W_U: what attending to a token does to the logits of every token.
  FactoredMatrix FullOV(const Head& head) const { return head.OV().TimesLeft(W_E).TimesRight(W_U); }
  // W_E QK W_E^T: how much every token attends to every token.
  FactoredMatrix FullQK(const Head& head) const {
    return head.QK().TimesLeft(W_E).TimesRight(W_E.transpose());
  }
};

// Reads "blocks.L.attn.W_Q|W_K|W_V|W_O", "blocks.L.ln1.w", "embed.W_E", ... of a model. With
// grouped queries a head gets its group's key and value. NotFound if no layer has attention.
absl::StatusOr<HeadCircuits> ReadHeadCircuits(const ResidualModel& model);

// copying[l][h] of W_E OV W_U.
HeadTable OvCopyingScores(const HeadCircuits& circuits);

// How much the input of one side of each later head is what an earlier head wrote:
// [l1][h1][l2][h2], zero unless l1 < l2.
enum class CompositionKind { kQ, kK, kV };
using CompositionTable = std::vector<std::vector<HeadTable>>;
CompositionTable Compositions(const HeadCircuits& circuits, CompositionKind kind);

}  // namespace residual

#endif  // RESIDUAL_INTERP_CIRCUITS_HEAD_CIRCUITS_H_
