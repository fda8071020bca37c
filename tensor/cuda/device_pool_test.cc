#include "tensor/cuda/device_pool.h"

#include <cstdlib>

#include "gtest/gtest.h"

namespace residual {
namespace {

// A device of 1 MiB.
size_t g_free = 0;
int g_frees = 0;
std::map<void*, size_t> g_blocks;

void* Allocate(size_t bytes) {
  if (bytes > g_free) return nullptr;
  g_free -= bytes;
  void* block = std::malloc(bytes);
  g_blocks[block] = bytes;
  return block;
}
void Free(void* block) {
  ASSERT_EQ(g_blocks.count(block), 1u);
  g_free += g_blocks[block];
  g_blocks.erase(block);
  ++g_frees;
  std::free(block);
}

class DevicePoolTest : public testing::Test {
 protected:
  void SetUp() override {
    g_free = 1 << 20;
    g_frees = 0;
  }
};

TEST_F(DevicePoolTest, BlocksFitAndWasteLittle) {
  size_t before = 0;
  for (size_t bytes = 0; bytes < 300000; bytes += bytes < 5000 ? 1 : 997) {
    const size_t size = DevicePool::BlockBytes(bytes);
    EXPECT_GE(size, bytes);
    EXPECT_EQ(size % 512, 0u);
    EXPECT_GE(size, before);
    EXPECT_LE(size - bytes, bytes > 4096 ? size / 5 : 512) << bytes;
    EXPECT_EQ(DevicePool::BlockBytes(size), size) << bytes;
    before = size;
  }
  EXPECT_EQ(DevicePool::BlockBytes(size_t{1} << 40), size_t{1} << 40);
  EXPECT_EQ(DevicePool::BlockBytes((size_t{1} << 40) + 1), (size_t{5} << 38));
}

TEST_F(DevicePoolTest, ReusesABlockOfTheSameSize) {
  DevicePool pool(Allocate, Free);
  void* a = pool.Take(1000);
  pool.Give(a, 1000);
  EXPECT_EQ(pool.Take(600), a);  // both are blocks of 1024
  void* b = pool.Take(1000);
  EXPECT_NE(b, a);
  EXPECT_EQ(pool.stats().allocations, 2);
  EXPECT_EQ(pool.stats().bytes, 2048);
  EXPECT_EQ(pool.stats().bytes_in_use, 2048);
  pool.Give(a, 600);
  pool.Give(b, 1000);
  EXPECT_EQ(pool.stats().bytes_in_use, 0);
  EXPECT_EQ(g_frees, 0);
}

TEST_F(DevicePoolTest, TrimsBeforeItGivesUp) {
  DevicePool pool(Allocate, Free);
  void* a = pool.Take(512 << 10);
  pool.Give(a, 512 << 10);
  void* whole = pool.Take(1 << 20);  // only fits once the block above is freed
  ASSERT_NE(whole, nullptr);
  EXPECT_EQ(g_frees, 1);
  EXPECT_EQ(pool.Take(1), nullptr);
  EXPECT_EQ(pool.stats().bytes_in_use, 1 << 20);
  pool.Give(whole, 1 << 20);
  void* small = pool.Take(1);
  ASSERT_NE(small, nullptr);
  pool.Give(small, 1);
}

TEST_F(DevicePoolTest, EndsByFreeingWhatItKeeps) {
  {
    DevicePool pool(Allocate, Free);
    pool.Give(pool.Take(100), 100);
  }
  EXPECT_EQ(g_free, size_t{1} << 20);
}

}  // namespace
}  // namespace residual
