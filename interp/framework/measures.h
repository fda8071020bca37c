// What "A Mathematical Framework for Transformer Circuits" (Elhage et al. 2021) says of models of
// no layer, of one and of two layers of attention alone, measured. The arithmetic behind
// //tools:reproduce -- framework.

#ifndef RESIDUAL_INTERP_FRAMEWORK_MEASURES_H_
#define RESIDUAL_INTERP_FRAMEWORK_MEASURES_H_

#include <complex>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "interp/circuits/composition.h"
#include "interp/circuits/skip_trigrams.h"
#include "interp/expansion/bigrams.h"
#include "interp/expansion/crossed_trigrams.h"
#include "interp/expansion/term_importance.h"
#include "interp/heads/head_scores.h"
#include "interp/induction/study.h"
#include "models/stream/residual_model.h"
#include "models/train/data.h"
#include "tensor/core/tensor.h"

namespace residual {

// Tokens that a source raises after each of two destinations: of triples [source] ... [destination]
// -> [out] as the text has them, and of the two with their outs crossed, which it has not.
struct CrossedEffect {
  int head = 0;
  CrossedTrigrams pair;
  // [0]: first out, [1]: second out; the mean over some distances.
  double after_first[2] = {0, 0}, after_second[2] = {0, 0};
  // The part of the vocabulary that is raised less, of the crossed outs.
  double rank_after_first = 0, rank_after_second = 0;
};

// A head of the second layer as Elhage et al. 2021 plot it ("Induction heads").
struct InductionCorner {
  HeadIndex head, writer;  // writer: the head below it that it composes with most by its keys
  double prefix = 0;       // value-weighted prefix matching on random tokens three times
  double ov = 0;           // sum Re(lambda) / sum |lambda| of W_E OV W_U
  double qk = 0;           // of W_E QK (OV of the writer)^T W_E^T
};

struct FrameworkMeasures {
  uint64_t seed = 0;
  int64_t parameters[3] = {0, 0, 0};  // of no, one and two layers
  double train_loss[3] = {0, 0, 0};   // mean of the last steps
  double seconds[3] = {0, 0, 0};      // of training

  BigramFit bigrams, untrained_bigrams;  // of the model without layers
  double direct_share[2] = {0, 0};       // of what there is to know of bigrams: one, two layers
  double expansion_error[2] = {0, 0};
  int64_t paths = 0;  // of two layers

  // One layer.
  std::vector<double> copying, random_copying;
  std::vector<std::vector<std::complex<double>>> eigenvalues;  // of each head's W_E OV W_U
  std::vector<std::complex<double>> random_eigenvalues;        // of one head
  std::vector<double> looks_near;  // attention to the token itself and the one before
  std::vector<std::vector<SkipTrigram>> skip_trigrams;
  std::vector<CrossedEffect> crossed;

  // Two layers.
  CompositionScores q, k, v;
  double random_k = 0;  // the largest K-composition of any pair at the start of training
  HeadScores scores;
  std::vector<InductionCorner> corner;     // of each head of the second layer
  std::vector<HeadIndex> induction_heads;  // those with at least half the best prefix matching
  TermImportance terms;
  Passage repeated, text;  // of random tokens and of held-out text
};

// The functions below fill in their part. Models without norms, biases and positions on the stream
// (else Unimplemented, see CheckPathsAddUp); `rows`: held-out text [batch, pos].
//
// One layer. untrained(i): one of `n_untrained` models of its shape, for what chance gives.
absl::Status MeasureOneLayer(
    const ResidualModel& model,
    const std::function<std::unique_ptr<ResidualModel>(int64_t i)>& untrained, int64_t n_untrained,
    const BigramTable& bigrams, const Tensor& rows, int64_t crossed_per_head, FrameworkMeasures& m);
// Two layers. untrained: the model before training; held_out: windows as it was trained on;
// occurring: the tokens of the text.
absl::Status MeasureTwoLayers(const ResidualModel& model, const ResidualModel& untrained,
                              const BigramTable& bigrams, const TrainingBatch& held_out,
                              const Tensor& rows, const std::vector<int64_t>& occurring,
                              FrameworkMeasures& m);

// Numbers that claims and pictures share.
double CopyingThreshold(const FrameworkMeasures& m);  // 97.5 of 100 random heads are below
double CopyingHeads(const FrameworkMeasures& m);      // share of heads above that
double CrossedRaised(const FrameworkMeasures& m);     // share of the crossed outs that are raised
double Largest(const CompositionTable& table);
// (largest K - chance) / (larger of the largest Q and V - chance).
double KOverOthers(const FrameworkMeasures& m, int64_t d_model);
// The previous-token score of the head with the largest K-composition, over the best of its layer.
double KWriterLooksBack(const FrameworkMeasures& m);
double BestPrefix(const FrameworkMeasures& m);  // prefix matching of the best head
// The lower of the two coordinates in the corner: least of the induction heads; largest of others.
double LeastCorner(const FrameworkMeasures& m);
double LargestOutsideCorner(const FrameworkMeasures& m);
double VirtualShare(const FrameworkMeasures& m);  // of what all heads take off the loss

}  // namespace residual

#endif  // RESIDUAL_INTERP_FRAMEWORK_MEASURES_H_
