// What a head cannot help saying: the "bugs" of skip-trigrams (Elhage et al. 2021, "Primarily
// Positional Heads and Skip-Trigram Bugs").
//
// A head knows its triples as a product QK[destination, source] x OV[source, out]: where it looks
// does not depend on what it then says. If a source has two triples, as in
//
//   keep ... in mind          keep ... at bay
//
// then both destinations look at it, both outs are raised, and keep ... in bay and keep ... at mind
// are raised too, whether or not anybody ever wrote them.

#ifndef RESIDUAL_INTERP_EXPANSION_CROSSED_TRIGRAMS_H_
#define RESIDUAL_INTERP_EXPANSION_CROSSED_TRIGRAMS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "interp/circuits/head_circuits.h"
#include "interp/circuits/skip_trigrams.h"
#include "interp/expansion/bigrams.h"
#include "models/stream/residual_model.h"
#include "tensor/core/tensor.h"

namespace residual {

// Two triples of one source in one head. The text has both destinations followed by their outs, and
// never by each other's.
struct CrossedTrigrams {
  SkipTrigram first, second;  // the one of the larger score first
};

// The `count` best by the lower of the two scores, no two with the same pair of destinations and
// outs, found among the head's `among` best triples. Both pairs occur at least `least` times.
std::vector<CrossedTrigrams> FindCrossed(const HeadCircuits& circuits,
                                         const HeadCircuits::Head& head, const BigramTable& bigrams,
                                         int64_t count, int64_t among = 1000, int64_t least = 3);

// How much a source earlier in the text raises what comes after a destination, measured on the
// whole model: rows [batch, pos] of text get the destination as their last token, and the source
// `distance` tokens before it; the logits after the last token, less those of the same rows with
// their own token there. The mean over rows, [d_vocab], less its mean over the vocabulary.
// InvalidArgument for tokens that do not fit the model, or no room for the distance.
absl::StatusOr<std::vector<double>> RaisedBySource(const ResidualModel& model, const Tensor& rows,
                                                   int64_t source, int64_t destination,
                                                   int64_t distance);

}  // namespace residual

#endif  // RESIDUAL_INTERP_EXPANSION_CROSSED_TRIGRAMS_H_
