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

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "interp/circuits/factored_matrix.h"
#include "models/stream/residual_model.h"
#include "tensor/core/tensor.h"

namespace residual {

// W_E and W_U of a model, which are large: its own tensors, not copied, and what processing does to
// them beside.
class Vocabulary {
 public:
  Vocabulary() = default;
  // centre_embed: W_E loses its mean over d_model.
  Vocabulary(const ResidualModel& model, bool process_weights, bool centre_embed);

  int64_t size() const { return W_E_.dim(0); }
  // f64 for a model of f64, else f32: what products over the vocabulary are computed in.
  DType dtype() const { return W_E_.dtype(); }

  // W_E x for x [d_model, n] and x W_U for x [n, d_model], of dtype(): [size, n] and [n, size].
  Tensor Embed(const RowMatrix& x) const;
  Tensor Unembed(const RowMatrix& x) const;

  // W_E^T W_E and W_U W_E, both [d_model, d_model]: all that the eigenvalues of circuits from token
  // to token need of the vocabulary.
  RowMatrix EmbedGram() const;
  RowMatrix UnembedTimesEmbed() const;

  // The matrices themselves, [size, d_model] and [d_model, size]: of small models.
  RowMatrix W_E() const;
  RowMatrix W_U() const;

 private:
  RowMatrix Folded(RowMatrix x) const;

  Tensor W_E_;         // [size, d_model]
  Tensor W_U_;         // [d_model, size]; if tied it is W_E_
  bool tied_ = false;  // W_U is W_E transposed
  RowMatrix gain_;     // [1, d_model] of the final norm; empty: none
  bool centre_embed_ = false, centre_read_ = false, centre_vocabulary_ = false;
};

struct HeadCircuits {
  struct Head {
    RowMatrix W_Q, W_K, W_V;  // [d_model, d_head]
    RowMatrix W_O;            // [d_head, d_model]
    FactoredMatrix QK() const { return {W_Q, W_K.transpose()}; }
    FactoredMatrix OV() const { return {W_V, W_O}; }
  };
  int64_t d_model = 0;
  // [layer][head]; a layer without attention has none.
  std::vector<std::vector<Head>> heads;
  Vocabulary vocabulary;

  // W_E OV W_U: what attending to a token does to the logits of every token.
  FactoredMatrix FullOV(const Head& head) const {
    return head.OV().TimesLeft(vocabulary.W_E()).TimesRight(vocabulary.W_U());
  }
  // W_E QK W_E^T: how much every token attends to every token.
  FactoredMatrix FullQK(const Head& head) const {
    const RowMatrix W_E = vocabulary.W_E();
    return head.QK().TimesLeft(W_E).TimesRight(W_E.transpose());
  }
};

// Reads "blocks.L.attn.W_Q|W_K|W_V|W_O" and the norms before them. With grouped queries a head gets
// its group's key and value. NotFound if no layer has attention.
absl::StatusOr<HeadCircuits> ReadHeadCircuits(const ResidualModel& model,
                                              bool process_weights = true);

}  // namespace residual

#endif  // RESIDUAL_INTERP_CIRCUITS_HEAD_CIRCUITS_H_
