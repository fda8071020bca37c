// A host that stands in for a GPU, for tests: .cu files compiled by the host's compiler, with
// RESIDUAL_CUDA_EMULATED, run as they are written (see kernel.h for what they may use).
//
// Blocks run one after the other; the threads of a block are fibers, switched at barriers. It finds
// wrong arithmetic, indices out of bounds (tensors lie between guard bytes, which the address
// sanitizer also sees read), a missing barrier (every other launch runs the threads backwards) and
// barriers that not all threads reach (aborts). It cannot find what only hardware does: its own
// rounding of exp, races finer than a barrier, too many registers; nor how fast a kernel is.
//
// Linking //tensor/cuda:emulation makes tensors on kCuda possible; their memory is the host's.

#ifndef RESIDUAL_TENSOR_CUDA_EMULATION_H_
#define RESIDUAL_TENSOR_CUDA_EMULATION_H_

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __shared__ static  // one block at a time
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_size = 1, unsigned y_size = 1, unsigned z_size = 1)  // NOLINT: as CUDA has it
      : x(x_size), y(y_size), z(z_size) {}
};

extern dim3 threadIdx, blockIdx, blockDim, gridDim;

// Until every thread of the block is here.
void __syncthreads();

namespace residual {
namespace emulation {

// Until every thread of the warp is here.
void SyncWarp();
// 8 bytes per thread of the block, for what passes between the lanes of a warp.
uint64_t* Mailbox();
// Index of the running thread in its block.
unsigned ThreadInBlock();

// Runs `thread` for every thread of every block.
void Run(dim3 grid, dim3 block, const std::function<void()>& thread);

}  // namespace emulation

template <class... Parameters, class... Arguments>
void LaunchKernel(void (*kernel)(Parameters...), dim3 grid, dim3 block, Arguments... arguments) {
  emulation::Run(grid, block, [&] { kernel(static_cast<Parameters>(arguments)...); });
}

}  // namespace residual

// The value of the lane whose number differs in the bits of lane_mask; the whole warp takes part.
template <class T>
T __shfl_xor_sync(unsigned members, T value, int lane_mask) {
  using residual::emulation::Mailbox;
  static_assert(sizeof(T) <= sizeof(uint64_t), "a value of at most 8 bytes");
  const unsigned thread = residual::emulation::ThreadInBlock();
  std::memcpy(&Mailbox()[thread], &value, sizeof(T));
  residual::emulation::SyncWarp();
  T other;
  std::memcpy(&other, &Mailbox()[thread ^ lane_mask], sizeof(T));
  residual::emulation::SyncWarp();  // nobody overwrites what is not read yet
  return other;
}

#endif  // RESIDUAL_TENSOR_CUDA_EMULATION_H_
