#include "tensor/core/storage.h"

#include <cstring>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace residual {
namespace {

TEST(StorageTest, AlignedForEverySize) {
  for (size_t bytes : {0, 1, 63, 64, 65, 255, 256, 257, 320, 321, 4095, 65536, 65537, 3000000}) {
    const StorageRef storage = AllocateHost(bytes);
    EXPECT_EQ(storage->bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(storage->data()) % 64, 0) << bytes;
    std::memset(storage->data(), 1, bytes);
  }
}

TEST(StorageTest, FreedBlocksAreUsedAgain) {
  for (size_t bytes : {8, 1000, 100000, 10000000}) {
    { StorageRef warm = AllocateHost(bytes); }
    const int64_t before = HostPoolStats().system_allocations;
    for (int i = 0; i < 100; ++i) StorageRef again = AllocateHost(bytes - i % 3);
    EXPECT_EQ(HostPoolStats().system_allocations, before) << bytes;
  }
}

TEST(StorageTest, CountsWhatIsInUseAndTrims) {
  TrimHostPool();
  const PoolStats before = HostPoolStats();
  {
    const StorageRef a = AllocateHost(1 << 20);
    EXPECT_EQ(HostPoolStats().bytes_in_use - before.bytes_in_use, 1 << 20);
  }
  EXPECT_EQ(HostPoolStats().bytes_in_use, before.bytes_in_use);
  EXPECT_GT(HostPoolStats().system_bytes, before.system_bytes);
  TrimHostPool();
  EXPECT_EQ(HostPoolStats().system_bytes, before.system_bytes);
}

TEST(StorageTest, HandlesShareAndTheLastOneFrees) {
  int released = 0;
  static const char text[] = "mapped";
  {
    StorageRef a = WrapHost(text, sizeof(text), [&] { ++released; });
    EXPECT_TRUE(a->unique());
    EXPECT_FALSE(a->writable());
    StorageRef b = a;
    EXPECT_FALSE(a->unique());
    a = StorageRef();
    EXPECT_EQ(released, 0);
    EXPECT_TRUE(b->unique());
  }
  EXPECT_EQ(released, 1);
}

TEST(StorageTest, BlocksMoveBetweenThreads) {
  std::vector<StorageRef> made;
  std::thread maker([&] {
    for (int i = 0; i < 100; ++i) made.push_back(AllocateHost(64 * i));
  });
  maker.join();
  made.clear();
  std::thread([] { StorageRef mine = AllocateHost(640); }).join();
}

// A storage that is freed after its thread's cache is gone (its holder was made before the cache,
// so it goes after it) comes back to the pool.
TEST(StorageTest, MayOutliveTheCacheOfItsThread) {
  TrimHostPool();
  const PoolStats before = HostPoolStats();
  std::thread([] {
    static thread_local StorageRef late;
    late = StorageRef();
    late = AllocateHost(777);
  }).join();
  const PoolStats after = HostPoolStats();
  EXPECT_EQ(after.bytes_in_use, before.bytes_in_use);
  EXPECT_EQ(after.system_allocations, before.system_allocations + 1);
  const StorageRef again = AllocateHost(777);
  EXPECT_EQ(HostPoolStats().system_allocations, after.system_allocations);
}

TEST(StorageDeathTest, GuardBytesCatchAWritePastTheEnd) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the sanitizer would see it first";
#endif
  SetHostGuardBytes(true);
  {
    const StorageRef fine = AllocateHost(100);
    std::memset(fine->data(), 0, 100);
  }
  EXPECT_DEATH(
      {
        const StorageRef storage = AllocateHost(100);
        static_cast<char*>(storage->data())[100] = 0;
      },
      "1 byte.* past the end of a tensor of 100 bytes");
  SetHostGuardBytes(false);
}

}  // namespace
}  // namespace residual
