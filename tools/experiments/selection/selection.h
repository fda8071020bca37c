// What a trained model selects, measured: the step of its state spaces by kind of token, and where
// an answer is read from.

#ifndef RESIDUAL_TOOLS_EXPERIMENTS_SELECTION_SELECTION_H_
#define RESIDUAL_TOOLS_EXPERIMENTS_SELECTION_SELECTION_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/stream/residual_model.h"
#include "tensor/core/tensor.h"

namespace residual {

// delta, the step that a selective state space takes at a token, averaged over rows, channels and
// the tokens of each kind; one for each kind and layer. Large: the state takes the token in and
// lets go of what it held; small: it goes on as it was (Gu and Dao 2023, section 3.5.2).
// tokens [batch, pos]; kind_of gives a token's kind, below `kinds`, or -1 for those left out. A
// kind without a token has NaN. NotFound if no layer has a memory that fades.
struct StepsOfLayer {
  int layer = 0;
  std::vector<double> of_kind;
};
absl::StatusOr<std::vector<StepsOfLayer>> MeasureSteps(
    const ResidualModel& model, const Tensor& tokens, int kinds,
    const std::function<int(int64_t token)>& kind_of);

// The head or channel that reads most, at the last position, from the place `from[row]` of each
// row: its share of the weights (interp/token_maps), averaged over the rows. NotFound if no mixer
// has such maps.
struct ReadingUnit {
  std::string name;  // "L1C17"
  double share = 0;
};
absl::StatusOr<ReadingUnit> WhoReadsFrom(const ResidualModel& model, const Tensor& tokens,
                                         const std::vector<int64_t>& from);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_EXPERIMENTS_SELECTION_SELECTION_H_
