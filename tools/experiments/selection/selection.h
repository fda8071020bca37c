// What a trained model selects, measured: the step of its state spaces by kind of token, and where
// an answer is read from.

#ifndef RESIDUAL_TOOLS_EXPERIMENTS_SELECTION_SELECTION_H_
#define RESIDUAL_TOOLS_EXPERIMENTS_SELECTION_SELECTION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/stream/residual_model.h"
#include "tensor/core/tensor.h"

namespace residual {

// delta, the step that a selective state space takes at a position, averaged over the positions of
// each kind. Large: the state takes in what is there and lets go of what it held; small: it goes on
// as it was (Gu and Dao 2023, section 3.5.2).
struct StepsOfLayer {
  int layer = 0;
  // [kind][channel]; NaN for a kind without a position.
  std::vector<std::vector<double>> of_channel;
};
// tokens [batch, pos]; kind_of, of the same shape and i64, has each position's kind, below `kinds`,
// or -1 for those left out. NotFound if no layer has a memory that fades.
absl::StatusOr<std::vector<StepsOfLayer>> MeasureSteps(const ResidualModel& model,
                                                       const Tensor& tokens, const Tensor& kind_of,
                                                       int kinds);

// Where the positions of one kind read from, by the maps from token to token of a mixer
// (interp/token_maps). `reads` is the kind of the queries; keys are the tokens before them.
// NotFound if no mixer has such maps.
struct ReadingOfLayer {
  int layer = 0;
  // The weight on a key of each kind, averaged over keys, queries, rows, heads or channels; NaN for
  // a kind without a key before a query.
  std::vector<double> of_kind;
};
absl::StatusOr<std::vector<ReadingOfLayer>> MeasureReading(const ResidualModel& model,
                                                           const Tensor& tokens,
                                                           const Tensor& kind_of, int kinds,
                                                           int reads);

// The head or channel that reads most, at the last position, from the `places` places from
// `from[row]` on in each row: its share of the weights (interp/token_maps), averaged over the rows.
// Places past the row's end do not count. NotFound if no mixer has such maps.
struct ReadingUnit {
  std::string name;  // "L1C17"
  double share = 0;
};
absl::StatusOr<ReadingUnit> WhoReadsFrom(const ResidualModel& model, const Tensor& tokens,
                                         const std::vector<int64_t>& from, int64_t places);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_EXPERIMENTS_SELECTION_SELECTION_H_
