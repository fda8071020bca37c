// Mamba-2's recurrence by the selective scan.

#ifndef RESIDUAL_MODELS_MAMBA_SSD_H_
#define RESIDUAL_MODELS_MAMBA_SSD_H_

#include <limits>

#include "tensor/core/tensor.h"

namespace residual {

struct SsdInputs {
  Tensor x;                   // [batch, pos, head, head_dim]
  Tensor dt;                  // [batch, pos, head]
  Tensor A;                   // [head]
  Tensor B, C;                // [batch, pos, group, state]
  Tensor D = {};              // [head]
  Tensor dt_bias = {};        // [head]
  Tensor initial_state = {};  // [batch, head, head_dim, state]
  Tensor segments = {};       // i64 [batch, pos]
  bool softplus = false;      // of dt + dt_bias
  double dt_min = -std::numeric_limits<double>::infinity();
  double dt_max = std::numeric_limits<double>::infinity();
};

struct SsdResult {
  Tensor y;           // [batch, pos, head, head_dim]
  Tensor last_state;  // [batch, head, head_dim, state]
};

SsdResult Ssd(const SsdInputs& inputs);

}  // namespace residual

#endif  // RESIDUAL_MODELS_MAMBA_SSD_H_
