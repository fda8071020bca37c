// When results are written past the caches.

#ifndef RESIDUAL_OPS_SIMD_STREAM_H_
#define RESIDUAL_OPS_SIMD_STREAM_H_

#include <cstddef>

namespace residual {

// Results of so many bytes are: little of them would still be in a cache for whoever reads them
// next, and lines that are written whole need not be read first.
inline bool PastCaches(size_t bytes) { return bytes >= size_t{16} << 20; }

}  // namespace residual

#endif  // RESIDUAL_OPS_SIMD_STREAM_H_
