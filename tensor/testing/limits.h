// What this machine can do at most, measured: the yardstick of benchmarks. On NumThreads() threads;
// measured once for each number of threads, the best of a few short runs.

#ifndef RESIDUAL_TENSOR_TESTING_LIMITS_H_
#define RESIDUAL_TENSOR_TESTING_LIMITS_H_

#include "tensor/core/dtype.h"

namespace residual {

// Floating-point operations per second of fused multiply-adds in registers: f32, f64, or bf16 by
// the processor's own dot product (where it has none: f32).
double PeakFlops(DType dtype);

// Bytes per second read from memory, and read and written by a copy past the caches (both counted).
double PeakReadBytes();
double PeakCopyBytes();

}  // namespace residual

#endif  // RESIDUAL_TENSOR_TESTING_LIMITS_H_
