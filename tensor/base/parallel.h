// The one way work is spread over threads.
//
// Determinism: the chunks a range is cut into depend on n and grain only, never on the number of
// threads. A chunk is computed by one thread, so whatever is computed per chunk (and then combined
// in chunk order) has the same bits for any number of threads.

#ifndef RESIDUAL_TENSOR_BASE_PARALLEL_H_
#define RESIDUAL_TENSOR_BASE_PARALLEL_H_

#include <cstdint>

#include "absl/functional/function_ref.h"

namespace residual {

// Number of threads ParallelFor uses, the caller's included. At start: the RESIDUAL_THREADS
// environment variable, else the processors this process may run on.
int NumThreads();

// Sets it (>= 1). Not to be called while a ParallelFor runs.
void SetNumThreads(int threads);

// Calls fn(begin, end) for the chunks [0, grain), [grain, 2 grain), ... of [0, n), possibly at the
// same time on several threads; returns when all are done. n <= 0: no call. grain < 1 counts as 1.
// Thread t of T begins with the t-th part of the chunks and then helps the others.
// A ParallelFor inside fn runs its chunks in order on the calling thread. Calls from several
// threads at once are allowed: one uses the workers, the others run alone.
void ParallelFor(int64_t n, int64_t grain, absl::FunctionRef<void(int64_t, int64_t)> fn);

// Number of chunks ParallelFor(n, grain) calls fn for; chunk i begins at i * grain.
inline int64_t NumChunks(int64_t n, int64_t grain) {
  if (grain < 1) grain = 1;
  return n <= 0 ? 0 : (n + grain - 1) / grain;
}

}  // namespace residual

#endif  // RESIDUAL_TENSOR_BASE_PARALLEL_H_
