// Keeps freed device memory for the next tensor of its size: cudaMalloc and cudaFree stop the whole
// device, and a training step frees and asks for the same sizes again and again.
//
// A block may be given back while kernels that use it are still queued: all of them, and all that
// will use it next, run in order on one stream.

#ifndef RESIDUAL_TENSOR_CUDA_DEVICE_POOL_H_
#define RESIDUAL_TENSOR_CUDA_DEVICE_POOL_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

namespace residual {

class DevicePool {
 public:
  // `allocate` returns nullptr when there is no more. Blocks are multiples of 512 bytes.
  using Allocate = void* (*)(size_t bytes);
  using Free = void (*)(void* block);
  DevicePool(Allocate allocate, Free free) : allocate_(allocate), free_(free) {}
  DevicePool(const DevicePool&) = delete;
  DevicePool& operator=(const DevicePool&) = delete;
  ~DevicePool() { Trim(); }

  // A block of at least `bytes`. Out of memory, returns what it keeps to the device and tries once
  // more; then nullptr.
  void* Take(size_t bytes);
  // Gives back a block that Take(bytes) returned.
  void Give(void* block, size_t bytes);
  // Frees the blocks that nobody uses.
  void Trim();

  struct Stats {
    int64_t allocations = 0;   // asked from the device since the start
    int64_t bytes = 0;         // held from the device now
    int64_t bytes_in_use = 0;  // of them, in blocks taken and not given back
  };
  Stats stats() const;

  // The size of the block for `bytes`: 512, or one of four sizes per power of two, so that at most
  // a fifth is wasted.
  static size_t BlockBytes(size_t bytes);

 private:
  void TrimLocked();

  const Allocate allocate_;
  const Free free_;
  mutable std::mutex mutex_;
  std::map<size_t, std::vector<void*>> kept_;  // by BlockBytes
  Stats stats_;
};

}  // namespace residual

#endif  // RESIDUAL_TENSOR_CUDA_DEVICE_POOL_H_
