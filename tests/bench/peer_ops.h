// The ops that tests/peers/compare.py races against PyTorch's, by name.

#ifndef RESIDUAL_TESTS_BENCH_PEER_OPS_H_
#define RESIDUAL_TESTS_BENCH_PEER_OPS_H_

#include <functional>
#include <string>

#include "nlohmann/json.hpp"
#include "tensor/core/tensor.h"

namespace residual {

// One run of what is timed. Gives what it computed: the output, then, for a run there and back, the
// gradients of the inputs that have one.
using Workload = std::function<TensorList()>;

// `inputs` are the op's operands in its order; with options["backward"] the last one is the
// output's gradient (not for a loss). Null if there is no op of that name.
Workload MakeWorkload(const std::string& op, const nlohmann::json& options,
                      const TensorList& inputs);

// f32 exponentials per second of the vector kernel, on NumThreads() threads, in caches: what bounds
// the selective scan.
double PeakExponentials();

}  // namespace residual

#endif  // RESIDUAL_TESTS_BENCH_PEER_OPS_H_
