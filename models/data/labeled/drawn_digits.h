// Digits drawn here: something to read where there is no data set at hand.

#ifndef RESIDUAL_MODELS_DATA_LABELED_DRAWN_DIGITS_H_
#define RESIDUAL_MODELS_DATA_LABELED_DRAWN_DIGITS_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "models/data/labeled/labeled.h"

namespace residual {

// n images of side x side pixels, [n, side^2, 1] in [0, 1], row by row; their labels are 0 to 9.
// Each is a drawing of strokes whose corners are moved a little, turned, sheared, scaled, shifted
// and traced with a pen of random width. A function of (n, side, seed); the first rows do not
// depend on n. CHECKs n >= 0 and side >= 4.
LabeledSequences DrawnDigits(int64_t n, int64_t side, uint64_t seed);

// Images of n x n pixels, averaged over squares of pool x pool. InvalidArgument if x holds no
// square images or `pool` does not divide their side.
absl::StatusOr<LabeledSequences> PoolImages(const LabeledSequences& data, int64_t pool);

}  // namespace residual

#endif  // RESIDUAL_MODELS_DATA_LABELED_DRAWN_DIGITS_H_
