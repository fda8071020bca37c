// ListOps (Nangia and Bowman 2018): nested expressions of digits whose value, a digit, is to be
// found. Drawn as the Long Range Arena does (Tay et al. 2020): at every place a digit with
// probability 3/4, else an operator with 2 to max_args arguments; digits only at depth max_depth.
//
//   [MAX 2 9 [MIN 4 7 ] 0 ]  ->  9
//
//   MIN, MAX    of the arguments
//   MED         their median; of an even number the mean of the middle two, rounded down
//   SM          their sum modulo 10

#ifndef RESIDUAL_MODELS_DATA_GENERATED_LIST_OPS_H_
#define RESIDUAL_MODELS_DATA_GENERATED_LIST_OPS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "models/data/labeled/labeled.h"

namespace residual {

// Tokens; 0 to 9 are the digits.
inline constexpr int32_t kListOpsMin = 10, kListOpsMax = 11, kListOpsMed = 12, kListOpsSum = 13,
                         kListOpsEnd = 14, kListOpsPadding = 15;

struct ListOpsOptions {
  int64_t n = 10000;
  // Tokens of an expression: as published, more than 500 and fewer than 2000.
  int64_t min_length = 501, max_length = 1999;
  int max_depth = 10;
  int max_args = 10;
};

// n different expressions, d_vocab 16, 10 classes; rows are as long as the longest. A function of
// (options, seed). InvalidArgument for options outside their ranges, and where so many different
// expressions of these lengths were not found in a thousand tries for each.
absl::StatusOr<LabeledSequences> MakeListOps(const ListOpsOptions& options, uint64_t seed);

// "[MAX 2 9 [MIN 4 7 ] 0 ]"; padding is left out.
std::string ListOpsText(absl::Span<const int32_t> tokens);

}  // namespace residual

#endif  // RESIDUAL_MODELS_DATA_GENERATED_LIST_OPS_H_
