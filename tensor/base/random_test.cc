#include "tensor/base/random.h"

#include <cmath>
#include <set>

#include "gtest/gtest.h"

namespace residual {
namespace {

// The known answers of the Random123 library for philox4x32-10.
TEST(PhiloxTest, KnownAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(PhiloxTest, UniformHasTheRightMoments) {
  const Philox random(7, 3);
  const int n = 100000;
  double sum = 0, squares = 0;
  for (int i = 0; i < n; ++i) {
    const float u = random.Uniform(i);
    ASSERT_GE(u, 0.0f);
    ASSERT_LT(u, 1.0f);
    sum += u;
    squares += u * u;
  }
  EXPECT_NEAR(sum / n, 0.5, 5 * std::sqrt(1.0 / 12 / n));
  EXPECT_NEAR(squares / n, 1.0 / 3, 5 * std::sqrt(4.0 / 45 / n));
}

// Each half of each word is used once, and all their values come equally often.
TEST(PhiloxTest, Bits16AreTheHalvesOfTheWords) {
  const Philox random(7, 3);
  std::multiset<uint32_t> halves, wanted;
  for (uint64_t i = 0; i < 3 * 128; ++i) halves.insert(random.Bits16(i));
  for (uint64_t i = 0; i < 3 * 64; ++i) {
    wanted.insert(random.Bits(i) & 0xffff);
    wanted.insert(random.Bits(i) >> 16);
  }
  EXPECT_EQ(halves, wanted);
  EXPECT_EQ(random.Bits16(130), random.Bits(66) & 0xffff);
  EXPECT_EQ(random.Bits16(194), random.Bits(66) >> 16);
  const int n = 1 << 20;
  std::array<int, 256> counts = {};
  for (int i = 0; i < n; ++i) ++counts[random.Bits16(i) >> 8];
  double chi_squared = 0;
  for (int count : counts) chi_squared += std::pow(count - n / 256.0, 2) / (n / 256.0);
  EXPECT_NEAR(chi_squared, 255, 5 * std::sqrt(2 * 255.0));
}

TEST(PhiloxTest, NormalHasTheRightMoments) {
  const Philox random(11);
  const int n = 100000;
  double sum = 0, squares = 0, fourth = 0;
  for (int i = 0; i < n; ++i) {
    const double x = random.Normal(i);
    sum += x;
    squares += x * x;
    fourth += x * x * x * x;
  }
  EXPECT_NEAR(sum / n, 0, 5 / std::sqrt(n));
  EXPECT_NEAR(squares / n, 1, 5 * std::sqrt(2.0 / n));
  EXPECT_NEAR(fourth / n, 3, 5 * std::sqrt(96.0 / n));
}

TEST(PhiloxTest, BelowIsUniform) {
  const Philox random(5);
  int counts[7] = {};
  for (int i = 0; i < 70000; ++i) ++counts[random.Below(i, 7)];
  for (int count : counts) EXPECT_NEAR(count, 10000, 5 * std::sqrt(10000.0));
  EXPECT_EQ(random.Below(0, 1), 0);
}

TEST(PhiloxTest, StreamsDiffer) {
  std::set<uint32_t> seen;
  for (uint64_t layer = 0; layer < 10; ++layer) {
    for (uint64_t step = 0; step < 10; ++step) {
      seen.insert(Philox(1, RandomStream("dropout", layer, step)).Bits(0));
    }
  }
  seen.insert(Philox(1, RandomStream("init")).Bits(0));
  EXPECT_EQ(seen.size(), 101);
}

}  // namespace
}  // namespace residual
