// Rotary positions as Hugging Face's configs give them.

#ifndef RESIDUAL_MODELS_ZOO_ROPE_H_
#define RESIDUAL_MODELS_ZOO_ROPE_H_

#include "models/checkpoint/config_reader.h"
#include "models/transformer/transformer.h"

namespace residual {

// Reads theta and the scaling into c, from `rope_parameters` (transformers 5) or from
// `rope_theta` and `rope_scaling`: of kind "default", "linear" or "llama3". The others change what
// the model computes and are refused by name. theta_names: the old spellings of theta. Returns the
// share of each head's features that is rotated: `partial_rotary_factor`, or else `partial`.
double ReadRope(ConfigReader& config, const FieldNames& theta_names, double partial,
                TransformerConfig& c);

}  // namespace residual

#endif  // RESIDUAL_MODELS_ZOO_ROPE_H_
