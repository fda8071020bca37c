#include "tensor/cuda/device_pool.h"

namespace residual {

constexpr size_t kSmallest = 512;

size_t DevicePool::BlockBytes(size_t bytes) {
  if (bytes <= kSmallest) return kSmallest;
  const size_t power = size_t{1} << (63 - __builtin_clzll(bytes - 1));  // the largest < bytes
  const size_t step = power / 4 < kSmallest ? kSmallest : power / 4;
  return (bytes + step - 1) / step * step;
}

void* DevicePool::Take(size_t bytes) {
  const size_t size = BlockBytes(bytes);
  std::lock_guard<std::mutex> lock(mutex_);
  void* block = nullptr;
  if (auto kept = kept_.find(size); kept != kept_.end() && !kept->second.empty()) {
    block = kept->second.back();
    kept->second.pop_back();
  } else {
    block = allocate_(size);
    if (block == nullptr) {
      TrimLocked();
      block = allocate_(size);
    }
    if (block == nullptr) return nullptr;
    ++stats_.allocations;
    stats_.bytes += size;
  }
  stats_.bytes_in_use += size;
  return block;
}

void DevicePool::Give(void* block, size_t bytes) {
  const size_t size = BlockBytes(bytes);
  std::lock_guard<std::mutex> lock(mutex_);
  kept_[size].push_back(block);
  stats_.bytes_in_use -= size;
}

void DevicePool::Trim() {
  std::lock_guard<std::mutex> lock(mutex_);
  TrimLocked();
}

void DevicePool::TrimLocked() {
  for (auto& [size, blocks] : kept_) {
    for (void* block : blocks) free_(block);
    stats_.bytes -= size * blocks.size();
    blocks.clear();
  }
}

DevicePool::Stats DevicePool::stats() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return stats_;
}

}  // namespace residual
