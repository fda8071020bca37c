#include "tensor/base/parallel.h"

#include <atomic>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace residual {
namespace {

TEST(ParallelForTest, CoversTheRangeOnceInChunksOfTheGrain) {
  for (int threads : {1, 2, 3, 4, 7}) {
    SetNumThreads(threads);
    EXPECT_EQ(NumThreads(), threads);
    for (int64_t n : {0, 1, 2, 7, 64, 1000, 10007}) {
      for (int64_t grain : {0, 1, 3, 64, 5000}) {
        std::vector<std::atomic<int>> seen(n);
        std::atomic<int64_t> calls{0};
        ParallelFor(n, grain, [&](int64_t begin, int64_t end) {
          ++calls;
          EXPECT_EQ(begin % std::max<int64_t>(grain, 1), 0);
          for (int64_t i = begin; i < end; ++i) ++seen[i];
        });
        EXPECT_EQ(calls, NumChunks(n, grain));
        for (int64_t i = 0; i < n; ++i) ASSERT_EQ(seen[i], 1) << n << " " << grain << " " << i;
      }
    }
  }
}

TEST(ParallelForTest, ReductionsByChunkAreBitEqualForAnyNumberOfThreads) {
  const int64_t n = 100003, grain = 1000;
  auto sum = [&] {
    std::vector<float> partial(NumChunks(n, grain));
    ParallelFor(n, grain, [&](int64_t begin, int64_t end) {
      float s = 0;
      for (int64_t i = begin; i < end; ++i) s += 1.0f / (1 + i);
      partial[begin / grain] = s;
    });
    float total = 0;
    for (float s : partial) total += s;
    return total;
  };
  SetNumThreads(1);
  const float expected = sum();
  for (int threads : {2, 3, 4, 7}) {
    SetNumThreads(threads);
    EXPECT_EQ(sum(), expected) << threads << " threads";
  }
}

// Waits for the other threads; a test that would wait for ever times out.
template <class Condition>
void WaitUntil(Condition condition) {
  while (!condition()) std::this_thread::yield();
}

TEST(ParallelForTest, AThreadBeginsWithItsOwnShareOfTheRange) {
  SetNumThreads(3);
  std::vector<std::thread::id> first(3);
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> begun{0};
    std::vector<std::thread::id> ran(6);
    ParallelFor(6, 1, [&](int64_t i, int64_t) {
      ran[i] = std::this_thread::get_id();
      if (i % 2 != 0) return;  // the second of a share
      ++begun;
      WaitUntil([&] { return begun == 3; });
    });
    for (int t = 0; t < 3; ++t) {
      if (round == 0) first[t] = ran[2 * t];
      EXPECT_EQ(ran[2 * t], first[t]) << "share " << t << ", round " << round;
    }
  }
  EXPECT_EQ(first[0], std::this_thread::get_id());
}

TEST(ParallelForTest, WhoIsDoneTakesOverWhatIsLeftOfOthers) {
  for (int64_t slow : {0, 7}) {  // in the share of the caller, of the worker
    SetNumThreads(2);
    std::atomic<int> done{0};
    ParallelFor(8, 1, [&](int64_t i, int64_t) {
      if (i == slow) WaitUntil([&] { return done == 7; });
      ++done;
    });
    EXPECT_EQ(done, 8);
  }
}

TEST(ParallelForTest, NestedCallsRunOnTheCallingThread) {
  SetNumThreads(3);
  std::atomic<int> inner{0};
  ParallelFor(8, 1, [&](int64_t, int64_t) {
    const std::thread::id outer = std::this_thread::get_id();
    ParallelFor(5, 1, [&](int64_t, int64_t) {
      EXPECT_EQ(std::this_thread::get_id(), outer);
      ++inner;
    });
  });
  EXPECT_EQ(inner, 40);
}

TEST(ParallelForTest, CallsFromSeveralThreads) {
  SetNumThreads(2);
  std::vector<std::thread> callers;
  std::atomic<int64_t> total{0};
  for (int t = 0; t < 4; ++t) {
    callers.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        ParallelFor(64, 4, [&](int64_t begin, int64_t end) { total += end - begin; });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(total, 4 * 200 * 64);
}

TEST(ParallelForTest, WakesSleepingWorkers) {
  SetNumThreads(2);
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> calls{0};
    ParallelFor(10, 1, [&](int64_t, int64_t) { ++calls; });
    EXPECT_EQ(calls, 10);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // long enough to fall asleep
  }
}

}  // namespace
}  // namespace residual
