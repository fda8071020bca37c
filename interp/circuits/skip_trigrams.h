// The skip-trigrams of a head (Elhage et al. 2021, "Interpreting attention heads as
// skip-trigrams"): [source] ... [destination] -> [out], where the destination attends to the source
// by the QK circuit and the source raises the out token by the OV circuit.

#ifndef RESIDUAL_INTERP_CIRCUITS_SKIP_TRIGRAMS_H_
#define RESIDUAL_INTERP_CIRCUITS_SKIP_TRIGRAMS_H_

#include <cstdint>
#include <vector>

#include "interp/circuits/head_circuits.h"

namespace residual {

struct SkipTrigram {
  int64_t source = 0, destination = 0, out = 0;
  double QK = 0;  // (W_E QK W_E^T)[destination, source] / sqrt(d_head)
  double OV = 0;  // (W_E OV W_U)[source, out]
  double score() const { return QK * OV; }
};

// The `count` triples of the largest products QK x OV among those where both are positive, largest
// first; of equal ones the smaller source, then destination, then out. Fewer where there are
// fewer. Both matrices are [vocab, vocab]: they are gone through some sources at a time (at most
// `at_once` entries of each, but a source at least) and never there as a whole. Takes
// 4 vocab^2 d_head operations a head.
std::vector<SkipTrigram> TopSkipTrigrams(const HeadCircuits& circuits,
                                         const HeadCircuits::Head& head, int64_t count,
                                         int64_t at_once = int64_t{1} << 24);

}  // namespace residual

#endif  // RESIDUAL_INTERP_CIRCUITS_SKIP_TRIGRAMS_H_
