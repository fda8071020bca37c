// Private: memory for what matrix products pack.

#ifndef RESIDUAL_OPS_GEMM_GEMM_MEMORY_H_
#define RESIDUAL_OPS_GEMM_GEMM_MEMORY_H_

#include <cstdint>

#include "tensor/core/storage.h"

namespace residual {
namespace gemm_internal {

constexpr int64_t kLargeScratch = int64_t{1} << 19;

// Memory for what is packed, which the thread keeps: to write what another core has read or written
// last takes several times as long, a tenth of a product of 1024 where the two share no cache.
inline char* Scratch(int64_t bytes) {
  thread_local StorageRef scratch;
  thread_local int64_t size = 0;
  if (bytes > size) {
    // Nobody asks for what was too small, of a size of its own: a large one goes back.
    scratch = StorageRef();
    if (size >= kLargeScratch) TrimHostPool();
    scratch = AllocateHost(bytes);
    size = bytes;
  }
  return static_cast<char*>(scratch->data());
}

}  // namespace gemm_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_GEMM_GEMM_MEMORY_H_
