// A number by which parameters are known: those of two models that differ have another one.

#ifndef RESIDUAL_MODELS_NN_FINGERPRINT_H_
#define RESIDUAL_MODELS_NN_FINGERPRINT_H_

#include <cstdint>

#include "models/nn/module.h"

namespace residual {

// CRC-32 of all parameters' names, dtypes, shapes and bytes, wherever they lie. By chance one of
// 2^32 other models has the same. The module has values, and no stored weights.
uint32_t ParametersFingerprint(Module& module);

}  // namespace residual

#endif  // RESIDUAL_MODELS_NN_FINGERPRINT_H_
