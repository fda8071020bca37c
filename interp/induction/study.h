// A small study of induction heads: train, find them, prove that they are what makes the model
// learn in context, and compare with a model that cannot have them (Elhage et al. 2021; Olsson et
// al. 2022). The arithmetic behind //tools:tour.

#ifndef RESIDUAL_INTERP_INDUCTION_STUDY_H_
#define RESIDUAL_INTERP_INDUCTION_STUDY_H_

#include <complex>
#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "interp/ablation/ablation.h"
#include "interp/circuits/composition.h"
#include "interp/circuits/copying.h"
#include "interp/heads/head_scores.h"
#include "models/stream/residual_model.h"
#include "models/train/data.h"
#include "models/train/trainer.h"

namespace residual {

// Heads with at least half the best score of a kind, and at least this, are called of that kind.
inline constexpr double kHeadFloor = 0.1;

// What was measured at one moment of training.
struct TrainingPoint {
  int64_t step = 0;
  int64_t tokens = 0;  // trained on so far
  double loss = 0;     // of the steps since the point before, mean, nats per token
  double icl_score = 0;
  double best_induction = 0, best_previous_token = 0;
};

// What the measurements are taken on, fixed for a study.
struct Probes {
  Tensor repeated_random;    // i64 [rows, 2 n]
  TrainingBatch held_out;    // windows training never sees, made like the training windows
  TrainingBatch plain_text;  // the same without repetition
};

// `vocabulary`: the tokens that occur in the text. `data` has EvalBatches of plain text, `held_out`
// has them with repetition.
Probes MakeProbes(const DataSource& data, const DataSource& held_out,
                  const std::vector<int64_t>& vocabulary, uint64_t seed);

absl::StatusOr<TrainingPoint> Measure(const ResidualModel& model, const Probes& probes);

// How long to train. With `patience`, training ends before max_steps once the best induction score
// is at least `formed` and has risen by less than `tolerance` over the last `patience`
// measurements: a rule of numbers only, so the same on every machine.
struct TrainPlan {
  int64_t max_steps = 0;
  int64_t every = 20;  // steps between measurements
  int64_t patience = 0;
  double formed = 0.5, tolerance = 0.02;
};

// Trains and measures before the first step, every `every` steps and at the end. `on_step` sees
// every step's result and the last point measured, and returns false to stop (Cancelled).
absl::StatusOr<std::vector<TrainingPoint>> TrainAndMeasure(
    Trainer& trainer, const Probes& probes, const TrainPlan& plan,
    const std::function<bool(const StepResult&, const TrainingPoint&)>& on_step);

// The stretch of training in which the best induction score rises from below a tenth to nine tenths
// of its range: where the heads form. Indices into the points: the last one before it has a tenth,
// the first one that has nine tenths. Not found if it never rises by more than 0.1.
struct PhaseChange {
  size_t first = 0, last = 0;
  bool found() const { return last > first; }
};
PhaseChange FindPhaseChange(const std::vector<TrainingPoint>& points);

// The heads a score table calls by a name, the strongest first: all with at least half the best
// score, and at least `floor`.
std::vector<HeadIndex> HeadsAbove(const HeadTable& scores, double floor);

// In-context learning with heads knocked out.
struct KnockOut {
  double without_induction = 0;  // all induction heads
  double without_matched = 0;    // as many of them as there are in a random set, the strongest
  std::vector<double> without_random;
  double random_mean = 0;  // of the above
  // How far the induction heads move the score, in units of what as many random heads do:
  // (without_matched - icl_score) / mean |without_random - icl_score|, the denominator at least 1 %
  // of |icl_score|. NaN if there are no heads outside the circuit to compare with.
  double ratio = 0;
};

// The proof by knocking out. The circuit is the induction heads and the previous-token heads in the
// layers below; random sets are drawn from the heads outside it, as many as there are induction
// heads, or all of them if they are fewer.
struct AblationStudy {
  std::vector<HeadIndex> induction_heads, previous_token_heads;  // the strongest first
  std::vector<std::vector<HeadIndex>> random_sets;
  double icl_score = 0;       // of the intact model
  KnockOut full;              // the heads above see the changed stream
  KnockOut frozen;            // every other head looks where it looked (see LossByPosition)
  HeadTable without_each;     // [layer][head]: every head alone, full
  double best_induction = 0;  // score of the intact model
  double best_induction_without_previous = 0;
  // The same without as many heads outside the circuit in the layers of the previous-token heads,
  // the mean over such sets; NaN if there are none.
  double best_induction_without_others = 0;
  std::vector<double> loss_by_position, loss_without_induction;
  std::vector<double> loss_without_random;  // mean over the random sets; empty without any
};
absl::StatusOr<AblationStudy> StudyAblations(const ResidualModel& model, const HeadScores& scores,
                                             const Probes& probes, uint64_t seed);

// What the weights say.
struct CircuitStudy {
  HeadTable ov_copying;            // [layer][head], of W_E OV W_U
  CompositionTable k_composition;  // [layer][head] of the writer, then of the reader
  double k_baseline = 0;           // 1 / sqrt(d_model): weights that know nothing of each other
  // Of the pair asked for: relative to the largest magnitude.
  std::vector<std::complex<double>> ov_eigenvalues;  // of the later head
  std::vector<std::complex<double>> qk_eigenvalues;  // of the later head through the earlier one
  double qk_matching = 0;  // copying score of the latter: 1 if it looks for its own kind
};
// `earlier`, `later`: a previous-token head and the induction head above it; none: no eigenvalues
// of that kind.
absl::StatusOr<CircuitStudy> StudyCircuits(const ResidualModel& model, HeadIndex earlier,
                                           HeadIndex later);

// A passage, where every head looks in it, and a place where that is worth seeing.
struct Passage {
  std::vector<int64_t> tokens;
  std::vector<Tensor>
      patterns;  // of each layer, [n_heads, query, key]; undefined without attention
  int64_t selected = 0;
};
// Of the rows [n, pos], the passage with the best example for `head`: a query in the last half that
// attends above all to a token whose predecessors are its own, as an induction head does. More
// equal predecessors are better (up to four), then more attention.
absl::StatusOr<Passage> FindPassage(const ResidualModel& model, const Tensor& rows, HeadIndex head);

}  // namespace residual

#endif  // RESIDUAL_INTERP_INDUCTION_STUDY_H_
