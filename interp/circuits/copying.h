// What the eigenvalues and singular values of a model's circuits say of its heads.
//
// A circuit from token to token, W_E OV W_U or W_E QK W_E^T, is [vocab, vocab] of rank d_head. Its
// eigenvalues that can differ from zero are those of a [d_head, d_head] matrix in which the
// vocabulary occurs only as W_U W_E or W_E^T W_E, [d_model, d_model]: made once for all heads.

#ifndef RESIDUAL_INTERP_CIRCUITS_COPYING_H_
#define RESIDUAL_INTERP_CIRCUITS_COPYING_H_

#include <complex>
#include <vector>

#include "interp/circuits/head_circuits.h"
#include "interp/heads/head_scores.h"

namespace residual {

// sum Re(lambda) / sum |lambda| of each head's circuit (CopyingScore), [layer][head].
struct CopyingScores {
  HeadTable OV, QK;
};
// Of W_V W_O and W_Q W_K^T.
CopyingScores CircuitCopyingScores(const HeadCircuits& circuits);
// With embeddings: of W_E OV W_U (positive: the head raises the logit of the token it attends to)
// and W_E QK W_E^T (positive: a token attends to its own kind).
CopyingScores FullCopyingScores(const HeadCircuits& circuits);
// The first of these alone.
HeadTable OvCopyingScores(const HeadCircuits& circuits);

// [layer][head][d_head], falling.
using SpectrumTable = std::vector<std::vector<std::vector<double>>>;
struct Spectra {
  SpectrumTable OV, QK;
};
Spectra SingularValues(const HeadCircuits& circuits);

// The eigenvalues of W_E OV W_U for one head: positive real ones raise the logit of the very token
// attended to.
std::vector<std::complex<double>> OvEigenvalues(const HeadCircuits& circuits, HeadIndex head);

// The eigenvalues of the QK circuit that a later head has through an earlier one (K-composition,
// Elhage et al. 2021, "Induction heads"): W_E QK (OV of the earlier)^T W_E^T, how much a token
// attends to the positions for which the earlier head wrote each token. Positive ones: it looks for
// its own kind. The earlier layer must be below the later one (CHECKed).
std::vector<std::complex<double>> KCompositionEigenvalues(const HeadCircuits& circuits,
                                                          HeadIndex earlier, HeadIndex later);

}  // namespace residual

#endif  // RESIDUAL_INTERP_CIRCUITS_COPYING_H_
