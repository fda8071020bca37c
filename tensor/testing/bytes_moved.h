// What a benchmark of an op that is bound by memory prints.

#ifndef RESIDUAL_TENSOR_TESTING_BYTES_MOVED_H_
#define RESIDUAL_TENSOR_TESTING_BYTES_MOVED_H_

#include "benchmark/benchmark.h"
#include "tensor/testing/limits.h"

namespace residual {

// The bytes per second that iterations of `bytes` read and written make, and `of_copy`, their share
// of what a copy past the caches reaches in the same run: more than 1 from caches.
inline void ReportBytes(benchmark::State& state, double bytes) {
  state.SetBytesProcessed(static_cast<int64_t>(bytes * static_cast<double>(state.iterations())));
  state.counters["of_copy"] =
      benchmark::Counter(bytes / PeakCopyBytes(), benchmark::Counter::kIsIterationInvariantRate);
}

}  // namespace residual

#endif  // RESIDUAL_TENSOR_TESTING_BYTES_MOVED_H_
