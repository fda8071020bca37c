// Bytes with shared ownership, from a pool.
//
// Why a pool: writing 4 MiB of fresh pages costs 50 times as much as writing 4 MiB used before
// (page faults), and a training step frees and asks for the same sizes again and again. After the
// first step a loop asks the system for nothing.

#ifndef RESIDUAL_TENSOR_CORE_STORAGE_H_
#define RESIDUAL_TENSOR_CORE_STORAGE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>

#include "tensor/core/device.h"

namespace residual {

// A block of bytes; shared by handles (StorageRef), freed with the last one.
class Storage {
 public:
  // Called once when the last handle goes.
  using Release = void (*)(Storage*);

  Storage(void* data, size_t bytes, Device device, Release release)
      : data_(data), bytes_(bytes), device_(device), release_(release) {}
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  virtual ~Storage() = default;

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  // Exactly one handle is left.
  bool unique() const { return refs_.load(std::memory_order_acquire) == 1; }
  // False for memory of somebody else (a mapped file): not to be written.
  bool writable() const { return writable_; }

 protected:
  bool writable_ = true;

 private:
  friend class StorageRef;
  std::atomic<int32_t> refs_{0};
  void* data_;
  size_t bytes_;
  Device device_;
  Release release_;
};

// An intrusive shared pointer: one word, no control block.
class StorageRef {
 public:
  StorageRef() = default;
  // The first handle of a new storage.
  explicit StorageRef(Storage* storage) : storage_(storage) {
    storage->refs_.store(1, std::memory_order_relaxed);
  }
  StorageRef(const StorageRef& other) : storage_(other.storage_) { Increment(); }
  StorageRef(StorageRef&& other) noexcept : storage_(other.storage_) { other.storage_ = nullptr; }
  StorageRef& operator=(StorageRef other) noexcept {
    std::swap(storage_, other.storage_);
    return *this;
  }
  ~StorageRef() {
    // Of the only handle nobody can make another meanwhile: no need to lock the bus for it.
    if (storage_ != nullptr &&
        (storage_->unique() || storage_->refs_.fetch_sub(1, std::memory_order_acq_rel) == 1)) {
      storage_->release_(storage_);
    }
  }

  Storage* get() const { return storage_; }
  Storage* operator->() const { return storage_; }
  explicit operator bool() const { return storage_ != nullptr; }

 private:
  void Increment() {
    if (storage_ != nullptr) storage_->refs_.fetch_add(1, std::memory_order_relaxed);
  }
  Storage* storage_ = nullptr;
};

// `bytes` (>= 0) of host memory from the pool, 64-byte aligned, with arbitrary contents (NaN where
// RESIDUAL_FILL_NAN is defined). Aborts with the size when the system has no more.
StorageRef AllocateHost(size_t bytes);

// Memory of somebody else, read-only; `release` runs when the last handle goes.
StorageRef WrapHost(const void* data, size_t bytes, std::function<void()> release);

struct PoolStats {
  int64_t system_allocations;  // blocks asked from the system since the start
  int64_t system_bytes;        // bytes of these blocks still held by the pool or in use
  int64_t bytes_in_use;        // bytes of live storages, rounded up to the pool's size classes
};
PoolStats HostPoolStats();

// Returns the blocks nobody uses to the system (those cached by other threads stay).
void TrimHostPool();

// While on, every new block ends in guard bytes, checked when it is freed: a kernel that writes
// past a tensor's end aborts with its size. For tests.
void SetHostGuardBytes(bool on);

}  // namespace residual

#endif  // RESIDUAL_TENSOR_CORE_STORAGE_H_
