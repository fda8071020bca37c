// How the heads of a mixer read, from its weights by their names: the part "q" of head h is what
// "q.hook_in" holds times W_Q[h], plus b_Q[h]. So what one head reads costs what one head costs,
// where a run of the mixer would read for all of them.

#ifndef RESIDUAL_INTERP_GRAPH_PART_WEIGHTS_H_
#define RESIDUAL_INTERP_GRAPH_PART_WEIGHTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "models/stream/mixer.h"
#include "tensor/core/tensor.h"

namespace residual {

class PartWeights {
 public:
  // CHECKs that a mixer which declares "q.hook_in" has W_Q [d_model, heads, d_head].
  PartWeights(const Mixer& mixer, const std::string& part);

  // What these heads make of what each of them reads: [n, batch, pos, d_model] -> [n, batch, pos,
  // d_head].
  Tensor Make(const Tensor& reads, const std::vector<int64_t>& heads) const;

  // The gradient at what each head reads, [heads, batch, pos, d_model], from that at the part,
  // [batch, pos, heads, d_head].
  Tensor Back(const Tensor& gradient) const;

 private:
  Tensor weight_;  // [heads, d_model, d_head]
  Tensor bias_;    // [heads, 1, d_head]; undefined: none
};

}  // namespace residual

#endif  // RESIDUAL_INTERP_GRAPH_PART_WEIGHTS_H_
