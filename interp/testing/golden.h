// A small attention-only transformer with layer norms and learned positions, and what
// TransformerLens 4.3 found in it: "raw.OV.singular_values", "processed.composition.K",
// "raw.detect.induction.mul", ... for its weights as they are and with processed weights (norms
// folded, writing weights, unembedding centred).

#ifndef RESIDUAL_INTERP_TESTING_GOLDEN_H_
#define RESIDUAL_INTERP_TESTING_GOLDEN_H_

#include <memory>
#include <string>

#include "models/stream/residual_model.h"
#include "tensor/core/tensor.h"

namespace residual {

// Two layers of three heads, d_model 24, d_head 8, vocabulary 89, context 32. `dtype`: that its
// parameters are converted to.
std::unique_ptr<ResidualModel> GoldenModel(DType dtype = kF32);

// CHECKs that there is one of this name. "repeated" is the tokens of detect and induction_stripe,
// "clean" those of decompose_resid, accumulated_resid_ln, stack_head_results and logit_attrs_last
// (of "answer" against "wrong", at the last position).
Tensor Golden(const std::string& name);

}  // namespace residual

#endif  // RESIDUAL_INTERP_TESTING_GOLDEN_H_
