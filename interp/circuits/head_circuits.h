// The circuits of a model's heads, from its weights by their names (Elhage et al. 2021).
//
// Row vectors, as the weights lie: a stream x is read by queries x W_Q and keys x W_K, and head h
// moves x_j W_V W_O to position i.
//   QK = W_Q W_K^T   which position is attended to
//   OV = W_V W_O     what is moved
// A norm's gain is part of what a head reads. Processed weights have it folded in, as
// TransformerLens folds it: diag(gain) W for W_Q, W_K, W_V and, of the final norm, W_U; where a
// norm subtracts the mean, so does the weight that reads behind it. What no reader can see is taken
// out: the mean over d_model of W_E and W_O where every reader centres, the mean over the
// vocabulary of W_U (it moves all logits alike). Norms that stand behind the sum (post-norm) belong
// to no read and are not folded. (interp/weights rewrites a whole model so, where it can be; this
// reads the same circuits also where it cannot, as with positions added behind a norm.)

#ifndef RESIDUAL_INTERP_CIRCUITS_HEAD_CIRCUITS_H_
#define RESIDUAL_INTERP_CIRCUITS_HEAD_CIRCUITS_H_

#include <complex>
#include <vector>

#include "Eigen/Core"
#include "absl/status/statusor.h"
#include "interp/circuits/factored_matrix.h"
#include "interp/heads/head_scores.h"
#include "models/stream/residual_model.h"

namespace residual {

struct HeadCircuits {
  // [layer][head]; a layer without attention has none.
  struct Head {
    Eigen::MatrixXd W_Q, W_K, W_V;  // [d_model, d_head]
    Eigen::MatrixXd W_O;            // [d_head, d_model]
    FactoredMatrix QK() const { return {W_Q, W_K.transpose()}; }
    FactoredMatrix OV() const { return {W_V, W_O}; }
  };
  std::vector<std::vector<Head>> heads;
  Eigen::MatrixXd W_E;  // [d_vocab, d_model]
  Eigen::MatrixXd W_U;  // [d_model, d_vocab]

  // W_E OV W_U: what attending to a token does to the logits of every token.
  FactoredMatrix FullOV(const Head& head) const { return head.OV().TimesLeft(W_E).TimesRight(W_U); }
  // W_E QK W_E^T: how much every token attends to every token.
  FactoredMatrix FullQK(const Head& head) const {
    return head.QK().TimesLeft(W_E).TimesRight(W_E.transpose());
  }
};

// Reads "blocks.L.attn.W_Q|W_K|W_V|W_O" and the norms before them. With grouped queries a head gets
// its group's key and value. NotFound if no layer has attention.
absl::StatusOr<HeadCircuits> ReadHeadCircuits(const ResidualModel& model,
                                              bool process_weights = true);

// [layer][head]: the copying score of W_E OV W_U, the eigenvalues by the factors' small side.
HeadTable OvCopyingScores(const HeadCircuits& circuits);

// The eigenvalues of W_E OV W_U for one head: positive real ones raise the logit of the very token
// attended to.
std::vector<std::complex<double>> OvEigenvalues(const HeadCircuits& circuits, HeadIndex head);

// The eigenvalues of the QK circuit that a later head has through an earlier one (K-composition,
// Elhage et al. 2021, "Induction heads"): W_E QK (OV of the earlier)^T W_E^T, how much a token
// attends to the positions for which the earlier head wrote each token. Positive ones: it looks for
// its own kind. The earlier layer must be below the later one (CHECKed).
std::vector<std::complex<double>> KCompositionEigenvalues(const HeadCircuits& circuits,
                                                          HeadIndex earlier, HeadIndex later);

// How much the input of one side of each later head is what an earlier head wrote:
// [l1][h1][l2][h2], zero unless l1 < l2.
enum class CompositionKind { kQ, kK, kV };
using CompositionTable = std::vector<std::vector<HeadTable>>;
CompositionTable Compositions(const HeadCircuits& circuits, CompositionKind kind);

}  // namespace residual

#endif  // RESIDUAL_INTERP_CIRCUITS_HEAD_CIRCUITS_H_
