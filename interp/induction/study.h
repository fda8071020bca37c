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
#include "interp/circuits/head_circuits.h"
#include "interp/heads/head_scores.h"
#include "models/stream/residual_model.h"
#include "models/train/data.h"
#include "models/train/trainer.h"

namespace residual {

// What was measured at one moment of training.
struct TrainingPoint {
  int64_t step = 0;
  int64_t tokens = 0;  // trained on so far
  double loss = 0;     // of the last steps, mean, nats per token
  double icl_score = 0;
  double best_induction = 0, best_previous_token = 0;
};

// What the measurements are taken on, fixed for a study.
struct Probes {
  Tensor repeated_random;    // i64 [rows, 2 n]
  TrainingBatch held_out;    // windows training never sees, made like the training windows
  TrainingBatch plain_text;  // the same without repetition
};

// `vocabulary`: the tokens that occur in the text. `data` gives the training windows, `held_out`
// has EvalBatches with repetition.
Probes MakeProbes(const DataSource& data, const DataSource& held_out,
                  const std::vector<int64_t>& vocabulary, uint64_t seed);

absl::StatusOr<TrainingPoint> Measure(const ResidualModel& model, const Probes& probes);

// Trains for `steps`, measuring before, every `every` steps and at the end. `on_step` sees every
// step's result and returns false to stop early (Cancelled).
absl::StatusOr<std::vector<TrainingPoint>> TrainAndMeasure(
    Trainer& trainer, const Probes& probes, int64_t steps, int64_t every,
    const std::function<bool(const StepResult&)>& on_step);

// The stretch of training in which the best induction score rises from a tenth to nine tenths of
// its range: where the heads form. Indices into the points; first == last if it never rises by
// more than 0.1.
struct PhaseChange {
  size_t first = 0, last = 0;
};
PhaseChange FindPhaseChange(const std::vector<TrainingPoint>& points);

// The heads a score table calls by a name: all with at least half the best score, and at least
// `floor`.
std::vector<HeadIndex> HeadsAbove(const HeadTable& scores, double floor);

// The proof by knocking out.
struct AblationStudy {
  std::vector<HeadIndex> induction_heads;
  std::vector<HeadIndex> previous_token_heads;
  double icl_score = 0;  // of the intact model
  double icl_without_induction = 0;
  std::vector<double> icl_without_random;  // as many heads, outside the circuit
  double random_mean = 0;
  // How far knocking out the induction heads moves the score, in units of what random heads do:
  // (icl_without_induction - icl_score) / |mean of the same over random sets|, the denominator at
  // least 1 % of |icl_score|.
  double ratio = 0;
  double best_induction = 0;                   // score of the intact model
  double best_induction_without_previous = 0;  // with the previous-token heads knocked out
  std::vector<double> loss_by_position, loss_without_induction;
  HeadTable icl_without_each;  // [layer][head]: every head alone
};
absl::StatusOr<AblationStudy> StudyAblations(const ResidualModel& model, const HeadScores& scores,
                                             const Probes& probes, uint64_t seed);

}  // namespace residual

#endif  // RESIDUAL_INTERP_INDUCTION_STUDY_H_
