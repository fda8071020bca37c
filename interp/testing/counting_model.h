// A small model that counts how often each of its blocks runs.

#ifndef RESIDUAL_INTERP_TESTING_COUNTING_MODEL_H_
#define RESIDUAL_INTERP_TESTING_COUNTING_MODEL_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "models/stream/residual_model.h"

namespace residual {

// float64: d_model 6, d_vocab 9, n_ctx 16, learned positions; each block adds the tanh of the mean
// of the stream so far, and counts its forwards in counts[layer], which outlives the model.
std::unique_ptr<ResidualModel> CountingModel(int n_layers, std::vector<int>* counts);

}  // namespace residual

#endif  // RESIDUAL_INTERP_TESTING_COUNTING_MODEL_H_
