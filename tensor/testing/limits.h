// What this machine can do at most, measured: the yardstick of benchmarks. On NumThreads() threads;
// measured once for each number of threads, the best of a few short runs.

#ifndef RESIDUAL_TENSOR_TESTING_LIMITS_H_
#define RESIDUAL_TENSOR_TESTING_LIMITS_H_

#include <cstddef>
#include <cstdint>

#include "tensor/core/dtype.h"
#include "tensor/core/storage.h"

namespace residual {

// Floating-point operations per second of fused multiply-adds in registers: f32, f64, or bf16 by
// the processor's own dot product (where it has none: f32).
double PeakFlops(DType dtype);

// Bytes per second read from memory, and read and written by a copy past the caches (both counted).
double PeakReadBytes();
double PeakCopyBytes();

// What moves memory does at most at this moment and of this size: on a virtual machine the peaks of
// a minute ago are not those of now.
class MemoryTraffic {
 public:
  // Of `bytes` in all (rounded down to 128 for each thread): read, or half of them read and half
  // written past the caches. Tensors' own kind of pages; nothing is left in a cache on purpose.
  MemoryTraffic(bool copy, size_t bytes);
  void Run() const;  // once, on NumThreads() threads
  size_t bytes() const { return bytes_; }

 private:
  StorageRef from_, to_;  // to_: null if nothing is written
  size_t bytes_;
};

}  // namespace residual

#endif  // RESIDUAL_TENSOR_TESTING_LIMITS_H_
