// How PatchSession runs its patches: stacked on the batch axis, layer by layer. Private to the
// package.
//
// Runs whose first changed position is the same (or near) go through the blocks together, as stacks
// [runs * batch, positions from there on, d_model]. At each layer the runs that begin there join:
// with the corrupted stream and hooks that edit their rows, or, for local points, with what one
// shared row made of the patches of several positions.

#ifndef RESIDUAL_INTERP_PATCH_PATCH_PASS_H_
#define RESIDUAL_INTERP_PATCH_PATCH_PASS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "absl/types/span.h"
#include "interp/patch/session.h"

namespace residual {

struct StackedEdit {
  const PatchCell* cell;
  const PatchPoint* point;
  const Tensor& value() const { return cell->value.defined() ? cell->value : point->clean; }
};

// A run that changes something in a block.
struct StackedRun {
  int64_t index = 0;  // among the patches of the unit
  int64_t start = 0;  // the first position that is computed
  int layer = 0;      // of its first edit; -1: outside the blocks
  bool local = false;
  std::vector<StackedEdit> edits;
};

class PatchPass {
 public:
  // The last `last` positions of the stream are read.
  PatchPass(PatchSession& session, int64_t last);

  // Calls done(indices, resid) for every run once, several at a time; resid: [runs * batch, last,
  // d_model] after the last block, a run's examples behind one another. The runs begin within the
  // blocks. `progress`: called before each stack goes through a block, with how many runs' worth of
  // work is done.
  using Done = std::function<void(absl::Span<const int64_t>, const Tensor&)>;
  void Run(std::vector<StackedRun> runs, const Done& done,
           const std::function<void(double)>& progress);

 private:
  struct Stack {
    std::vector<const StackedRun*> runs;
    Tensor resid;
  };
  using Stacks = std::map<int64_t, std::vector<Stack>>;  // by first position

  // The corrupted stream before `layer` from `start` on, for so many runs.
  Tensor Corrupted(int layer, int64_t start, int64_t runs) const;
  // The stream after the layer's block, with the edits of these rows.
  struct RowEdit {
    StackedEdit edit;
    int64_t run;  // its row divided by the batch
  };
  Tensor ThroughBlock(int layer, int64_t start, const Tensor& resid,
                      absl::Span<const RowEdit> edits, int64_t last);
  // What the layer's mixers remember of the corrupted run's first positions, for so many runs.
  BlockState StateAt(int layer, int64_t length, int64_t runs);
  void JoinLocal(int layer, absl::Span<const StackedRun* const> runs, Stacks& stacks);
  // Adds runs to the stacks of their first position, filling the last one first. make(begin, end):
  // the stream of so many of them, made no sooner than it is stacked.
  using MakeRows = std::function<Tensor(int64_t, int64_t)>;
  void Join(int64_t start, absl::Span<const StackedRun* const> runs, const MakeRows& make,
            std::vector<Stack>& stacks) const;
  int64_t RunsAtOnce(int64_t positions) const;

  PatchSession& session_;
  const ResidualModel& model_;
  const int64_t last_, batch_, positions_;
  // The state that mixers which cannot roll back have been read up to.
  struct {
    int layer = -1;
    int64_t length = 0;
    BlockState state;
  } read_;
};

}  // namespace residual

#endif  // RESIDUAL_INTERP_PATCH_PATCH_PASS_H_
