// Images of dashed curves: do the two discs lie on the ends of one curve, or of two? (Linsley et
// al. 2018; as sequences of pixels in the Long Range Arena, Tay et al. 2020.) The original images
// come from a renderer of their own; these are drawn anew after the same idea: two long curves,
// short distractors, a gap after every dash, nothing touching anything else.

#ifndef RESIDUAL_MODELS_DATA_GENERATED_PATHFINDER_H_
#define RESIDUAL_MODELS_DATA_GENERATED_PATHFINDER_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "models/data/labeled/labeled.h"

namespace residual {

struct PathfinderOptions {
  int64_t n = 10000;
  int size = 32;               // pixels of a side; sequences are its square long
  int n_dashes = 9;            // of the two long curves
  int n_distractors = 3;       // other curves, with a third of the dashes
  double dash = 2, gap = 1.5;  // pixels
  double max_turn = 0.7;       // from a dash to the next, radians
  // Between dashes that do not follow one another, centre to centre. With more than gap + 2.5 eyes
  // can tell what belongs together wherever the dashes are.
  double clearance = 4.1;
};

// Values in [0, 1], [n, size * size, 1]; label 1: one curve, 0: two; each with probability 1/2. Row
// i is a function of (options but n, seed, i). InvalidArgument for options outside their ranges,
// and where the curves do not fit: a generous number of trials found no place for them.
absl::StatusOr<LabeledSequences> MakePathfinder(const PathfinderOptions& options, uint64_t seed);

}  // namespace residual

#endif  // RESIDUAL_MODELS_DATA_GENERATED_PATHFINDER_H_
