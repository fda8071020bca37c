// Activation patching (Meng et al. 2022; Wang et al. 2023): a model reads a corrupted input, one or
// more of its activations are replaced by those it had on the clean input, and a metric says what
// of the clean behaviour comes back.
//
//   RESIDUAL_ASSIGN_OR_RETURN(PatchSession session, PatchSession::Create(model, clean, corrupted));
//   RESIDUAL_ASSIGN_OR_RETURN(Sweep sweep, PlanSweep(session, "z", "head_pos"));       // sweep.h
//   RESIDUAL_ASSIGN_OR_RETURN(auto values, session.Run(sweep.patches, LogitDifference(..)));
//
// Any activation of any model: a point is a declared hook name, its parts go by its declared axes.
//
// What a patched run shares with the corrupted one is not computed again:
//   - the blocks below: a run begins at the layer of its first patch, from the corrupted stream
//   - in causal models the positions before the first that differs: their keys, values or
//     recurrent states are those of the corrupted run, rolled back, or read anew by mixers that
//     cannot roll back
//   - the block of the patch, where what is patched matters to its own position alone (queries, an
//     MLP, ..): one row of the batch then serves the patches of all positions
//   - in the last block what mixers that look at one position at a time do before the end, and
//     all logits that the metric does not read
//   - a patch that changes no bit: its values are those of the corrupted run
// Runs are stacked on the batch axis and join the stack at their layer, so products are of many
// rows. The values are those of whole forwards with hooks (PatchPlainly) up to rounding.

#ifndef RESIDUAL_INTERP_PATCH_SESSION_H_
#define RESIDUAL_INTERP_PATCH_SESSION_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "interp/metric/metric.h"
#include "interp/patch/activation_axes.h"
#include "models/stream/residual_model.h"
#include "tensor/core/tensor.h"

namespace residual {

// One of the two runs.
enum class PatchRun { kCorrupted, kClean };

// Cells replaced in one run.
struct Patch {
  std::vector<PatchCell> cells;
};

struct PatchOptions {
  // Positions that the runs of a unit have together, about; a larger run is a unit of its own.
  int64_t unit_positions = 8192;
  // Positions of stacked runs that go through a block together, and how many are enough to leave
  // runs of other first positions out of the stack.
  int64_t stacked_positions = 512, enough_positions = 128;
  // Positions, those before their first included, of the runs that go through a block together.
  int64_t remembered_positions = 8192;
  // The run that is made to learn how large activations are. The clean one is needed by all;
  // attribution makes the run of its gradient itself, and would make that one twice.
  PatchRun plan_on = PatchRun::kClean;
  // Called often, from within a layer: patches done so far (fractions count) of Run's or RunUnit's.
  std::function<void(double done, double all)> progress;
};

// Both runs' activation at a point.
struct PatchPoint {
  DeclaredHook hook;
  ActivationAxes axes;
  int layer = -1;      // -1: outside the blocks
  bool local = false;  // within its block: a position's part matters to that position alone
  Tensor clean, corrupted;
  const Tensor& of(PatchRun run) const { return run == PatchRun::kClean ? clean : corrupted; }
  Tensor& of(PatchRun run) { return run == PatchRun::kClean ? clean : corrupted; }
  // Of a run that was made: as large in both.
  const Tensor& any() const { return clean.defined() ? clean : corrupted; }
};

struct StackedRun;

class PatchSession {
 public:
  // The model outlives the session. InvalidArgument for inputs that the model cannot read or that
  // are not of one shape, and for packed ones.
  static absl::StatusOr<PatchSession> Create(const ResidualModel& model, const ModelInput& clean,
                                             const ModelInput& corrupted,
                                             const PatchOptions& options = {});

  // The activations of both runs at these points, in their order; read together where they were not
  // yet. NotFound for a name that is not declared, InvalidArgument for a point that cannot be
  // patched, FailedPrecondition for a NaN.
  absl::StatusOr<std::vector<const PatchPoint*>> Points(const std::vector<std::string>& names);

  // The same where sizes are enough: of one run, options.plan_on's, the activations are there, of
  // the other they may be undefined.
  absl::StatusOr<std::vector<const PatchPoint*>> Plan(const std::vector<std::string>& names);

  // One of the runs on the current tape, which watches the embeddings: no weight's gradient is
  // computed. Each point of `through`, inside the blocks, goes through a handle of its own, and
  // `read` is read as well; what both hold is kept, so that Points makes this run no more. Points
  // as Plan knows them.
  struct Taped {
    std::vector<Tensor> handles;  // of `through`, in its order
    Tensor resid;                 // after the last block
  };
  Taped RunOnTape(PatchRun which, const std::vector<std::string>& through,
                  const std::vector<std::string>& read = {});

  // InvalidArgument for a cell outside its activation, whose point was read by Plan or Points.
  absl::Status CheckCell(const PatchCell& cell) const;

  // The metric of each patch's run, by example: values[patch][example]. InvalidArgument for a cell
  // outside its activation or a metric that does not fit; nothing is run then.
  absl::StatusOr<std::vector<std::vector<double>>> Run(absl::Span<const Patch> patches,
                                                       const Metric& metric);

  // The same in pieces. Units, lists of indices of patches, are what Run stacks; those that cost
  // most come first, and a patch that changes nothing is in none: its values are Corrupted's. How
  // patches are divided depends on these, the prompts and the options, and a unit's values on its
  // own patches: they have the same bits in any order, in several processes, or on another day.
  absl::StatusOr<std::vector<std::vector<int64_t>>> Units(absl::Span<const Patch> patches,
                                                          const Metric& metric);
  // values[i][example] of patches[unit[i]].
  absl::StatusOr<std::vector<std::vector<double>>> RunUnit(absl::Span<const Patch> patches,
                                                           absl::Span<const int64_t> unit,
                                                           const Metric& metric);

  // The metric of the runs as they are. FailedPrecondition if it is NaN.
  absl::StatusOr<std::vector<double>> Clean(const Metric& metric);
  absl::StatusOr<std::vector<double>> Corrupted(const Metric& metric);
  // Of the clean run, [batch, d_vocab]: what KlDivergence takes.
  Tensor CleanLogits();

  const ResidualModel& model() const { return model_; }
  const ModelInput& input(PatchRun run) const {
    return run == PatchRun::kClean ? clean_ : corrupted_;
  }
  const ModelInput& clean() const { return clean_; }
  const ModelInput& corrupted() const { return corrupted_; }
  int64_t batch() const { return corrupted_.tokens.dim(0); }
  int64_t positions() const { return corrupted_.tokens.dim(1); }

 private:
  friend class PatchPass;
  PatchSession(const ResidualModel& model, const ModelInput& clean, const ModelInput& corrupted,
               const PatchOptions& options);

  absl::Status Declare(const std::vector<std::string>& names);
  // Makes a run, unless all of these points of it are known, and its end.
  void Make(PatchRun which, const std::vector<std::string>& names);
  // The corrupted run layer by layer, keeping what patched runs start from.
  Tensor StreamsAndStates(Tensor resid, const MixerContext& context, const Scope& scope);
  absl::StatusOr<std::vector<const PatchPoint*>> Found(const std::vector<std::string>& names,
                                                       bool both) const;
  // Checks these patches and makes what their runs start from.
  absl::Status Prepare(absl::Span<const Patch> patches, absl::Span<const int64_t> indices,
                       const Metric& metric);
  // Of those that change something.
  std::vector<StackedRun> RunsOf(absl::Span<const Patch> patches, absl::Span<const int64_t> indices,
                                 const Metric& metric);
  // `progress`: patches of the unit done so far.
  absl::StatusOr<std::vector<std::vector<double>>> RunTogether(
      absl::Span<const Patch> patches, absl::Span<const int64_t> unit, const Metric& metric,
      const std::function<void(double)>& progress);
  absl::StatusOr<std::vector<double>> MetricOf(const Tensor& resid, const Metric& metric,
                                               const char* which) const;

  const ResidualModel& model_;
  ModelInput clean_, corrupted_;
  PatchOptions options_;
  bool causal_ = true;
  std::map<std::string, DeclaredHook> declared_;
  std::map<std::string, PatchPoint> points_;
  // Of the corrupted run: the stream before each block and after the last, and what each block
  // remembers of all positions.
  std::vector<Tensor> streams_;
  std::vector<BlockState> states_;
  Tensor clean_end_, corrupted_end_;  // the streams after the last block
};

}  // namespace residual

#endif  // RESIDUAL_INTERP_PATCH_SESSION_H_
