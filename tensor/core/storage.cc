#include "tensor/core/storage.h"

#include <malloc.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "tensor/base/check.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

namespace residual {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kGuard = 64;
constexpr unsigned char kGuardByte = 0xA5;

// Size classes: four per power of two from 64 bytes up, so at most a quarter is wasted.
constexpr int kClasses = 4 * 44;
// Blocks up to this class are kept per thread first: no lock on the path of small ops.
constexpr int kThreadClasses = 4 * 11;  // up to 64 KiB
constexpr int kThreadBlocks = 32;       // per class

struct SizeClass {
  int index;
  size_t bytes;
};

SizeClass ClassOf(size_t bytes) {
  if (bytes <= 256) {  // 64, 128, 192, 256
    const size_t quarter = bytes == 0 ? 0 : (bytes - 1) / 64;
    return {static_cast<int>(quarter), (quarter + 1) * 64};
  }
  const int log = 63 - __builtin_clzll(bytes - 1);  // 2^log <= bytes - 1
  const size_t step = size_t{1} << (log - 2);
  const size_t quarter = (bytes - 1 - (size_t{1} << log)) / step;  // 0..3
  return {4 * (log - 7) + static_cast<int>(quarter), (size_t{1} << log) + (quarter + 1) * step};
}

// The header lies in its own 64 bytes before the data, so the data stay aligned.
class PooledStorage final : public Storage {
 public:
  PooledStorage(void* data, size_t bytes, int size_class, bool guarded, Release release)
      : Storage(data, bytes, kCpu, release), size_class_(size_class), guarded_(guarded) {}
  int size_class() const { return size_class_; }
  bool guarded() const { return guarded_; }

 private:
  int size_class_;
  bool guarded_;
};
static_assert(sizeof(PooledStorage) <= kAlignment, "the header must fit before the data");

size_t ClassBytes(int index) {
  return index < 4
             ? (index + 1) * size_t{64}
             : (size_t{1} << (index / 4 + 7)) + (index % 4 + 1) * (size_t{1} << (index / 4 + 5));
}

class HostPool {
 public:
  void* Take(SizeClass size) {
    Cache* cache = ThreadCache();
    Count(cache, static_cast<int64_t>(size.bytes));
    if (cache != nullptr && size.index < kThreadClasses) {
      auto& cached = cache->blocks[size.index];
      if (!cached.empty()) {
        void* block = cached.back();
        cached.pop_back();
        return block;
      }
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      auto& free = free_[size.index];
      if (!free.empty()) {
        void* block = free.back();
        free.pop_back();
        return block;
      }
    }
    return FromSystem(size.bytes + kAlignment);
  }

  void Give(void* block, SizeClass size) {
    Cache* cache = ThreadCache();
    Count(cache, -static_cast<int64_t>(size.bytes));
    if (cache != nullptr && size.index < kThreadClasses) {
      auto& cached = cache->blocks[size.index];
      if (cached.size() < kThreadBlocks) {
        if (cached.capacity() == 0) cached.reserve(kThreadBlocks);
        cached.push_back(block);
        return;
      }
    }
    std::lock_guard<std::mutex> lock(mutex_);
    free_[size.index].push_back(block);
  }

  void Trim() {
    if (Cache* cache = ThreadCache()) cache->Flush();
    std::lock_guard<std::mutex> lock(mutex_);
    for (int c = 0; c < kClasses; ++c) {
      for (void* block : free_[c]) {
        ASAN_UNPOISON_MEMORY_REGION(block, ClassBytes(c) + kAlignment);
        std::free(block);
        system_bytes_ -= ClassBytes(c) + kAlignment;
      }
      free_[c].clear();
    }
#if defined(__GLIBC__)
    malloc_trim(0);  // free() keeps what lies between blocks in use
#endif
  }

  PoolStats Stats() {
    std::lock_guard<std::mutex> lock(mutex_);
    int64_t in_use = bytes_in_use_;
    for (const Cache* cache : caches_) in_use += cache->bytes_in_use;
    return {system_allocations_, system_bytes_, in_use};
  }

  std::atomic<bool> guard_{false};

 private:
  struct Cache {
    std::array<std::vector<void*>, kThreadClasses> blocks;
    // Taken less given back by this thread. It alone writes it, so that counting is no locked
    // addition, of which an op on a few numbers would feel each.
    std::atomic<int64_t> bytes_in_use{0};
    Cache();
    ~Cache();
    void Flush();
  };

  void Count(Cache* cache, int64_t bytes) {
    if (cache != nullptr) {
      const int64_t before = cache->bytes_in_use.load(std::memory_order_relaxed);
      cache->bytes_in_use.store(before + bytes, std::memory_order_relaxed);
    } else {
      bytes_in_use_ += bytes;
    }
  }

  // nullptr at the end of a thread, where a tensor of static duration may outlive the cache.
  static Cache* ThreadCache() {
    if (cache_gone_) return nullptr;
    static thread_local Cache cache;
    return &cache;
  }
  static thread_local bool cache_gone_;

  void* FromSystem(size_t bytes) {
    // Whole huge pages where it pays: one page fault instead of 512.
    const bool huge = bytes >= kHugePage;
    const size_t alignment = huge ? kHugePage : kAlignment;
    void* block = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    RESIDUAL_CHECK(block != nullptr) << "out of memory: the system gave no " << bytes
                                     << " bytes; the pool holds " << system_bytes_ << ". ";
    if (huge) madvise(block, bytes, MADV_HUGEPAGE);
    ++system_allocations_;
    system_bytes_ += bytes;
    return block;
  }

  std::mutex mutex_;
  std::array<std::vector<void*>, kClasses> free_;
  std::vector<Cache*> caches_;            // of all threads
  std::atomic<int64_t> bytes_in_use_{0};  // by threads without a cache (any more)
  std::atomic<int64_t> system_allocations_{0};
  std::atomic<int64_t> system_bytes_{0};
};

thread_local bool HostPool::cache_gone_ = false;

// Never destroyed: tensors of static duration may outlive it.
HostPool& ThePool() {
  static HostPool* pool = new HostPool;
  return *pool;
}

HostPool::Cache::Cache() {
  HostPool& pool = ThePool();
  std::lock_guard<std::mutex> lock(pool.mutex_);
  pool.caches_.push_back(this);
}

HostPool::Cache::~Cache() {
  Flush();
  HostPool& pool = ThePool();
  std::lock_guard<std::mutex> lock(pool.mutex_);
  pool.caches_.erase(std::find(pool.caches_.begin(), pool.caches_.end(), this));
  pool.bytes_in_use_ += bytes_in_use;
  cache_gone_ = true;
}

void HostPool::Cache::Flush() {
  HostPool& pool = ThePool();
  std::lock_guard<std::mutex> lock(pool.mutex_);
  for (int c = 0; c < kThreadClasses; ++c) {
    pool.free_[c].insert(pool.free_[c].end(), blocks[c].begin(), blocks[c].end());
    blocks[c].clear();
  }
}

void ReleasePooled(Storage* storage) {
  auto* pooled = static_cast<PooledStorage*>(storage);
  const int size_class = pooled->size_class();
  const size_t capacity = ClassBytes(size_class);
  if (pooled->guarded()) {
    const auto* end = static_cast<const unsigned char*>(pooled->data()) + pooled->bytes();
    for (size_t i = 0; i < capacity - pooled->bytes(); ++i) {
      RESIDUAL_CHECK(end[i] == kGuardByte)
          << "something wrote " << i + 1 << " byte(s) past the end of a tensor of "
          << pooled->bytes() << " bytes. ";
    }
  }
  pooled->~PooledStorage();
  ASAN_POISON_MEMORY_REGION(pooled, capacity + kAlignment);
  ThePool().Give(pooled, {size_class, capacity});
}

class WrappedStorage : public Storage {
 public:
  WrappedStorage(const void* data, size_t bytes, std::function<void()> release)
      : Storage(const_cast<void*>(data), bytes, kCpu,
                [](Storage* storage) { delete static_cast<WrappedStorage*>(storage); }),
        released_(std::move(release)) {
    writable_ = false;
  }
  ~WrappedStorage() override {
    if (released_) released_();
  }

 private:
  std::function<void()> released_;
};

}  // namespace

StorageRef AllocateHost(size_t bytes) {
  HostPool& pool = ThePool();
  const bool guarded = pool.guard_.load(std::memory_order_relaxed);
  RESIDUAL_CHECK_LT(bytes, size_t{1} << 46);
  const SizeClass size = ClassOf(guarded ? bytes + kGuard : bytes);
  void* block = pool.Take(size);
  ASAN_UNPOISON_MEMORY_REGION(block, kAlignment + bytes);
  char* data = static_cast<char*>(block) + kAlignment;
  auto* storage = new (block) PooledStorage(data, bytes, size.index, guarded, ReleasePooled);
  if (guarded) {
    ASAN_UNPOISON_MEMORY_REGION(data, size.bytes);
    std::memset(data + bytes, kGuardByte, size.bytes - bytes);
  } else {
    ASAN_POISON_MEMORY_REGION(data + bytes, size.bytes - bytes);
  }
#ifdef RESIDUAL_FILL_NAN
  std::memset(data, 0xff, bytes);  // a NaN in every float format, -1 in every integer
#endif
  return StorageRef(storage);
}

StorageRef WrapHost(const void* data, size_t bytes, std::function<void()> release) {
  return StorageRef(new WrappedStorage(data, bytes, std::move(release)));
}

PoolStats HostPoolStats() { return ThePool().Stats(); }

void TrimHostPool() { ThePool().Trim(); }

void SetHostGuardBytes(bool on) { ThePool().guard_.store(on, std::memory_order_relaxed); }

}  // namespace residual
