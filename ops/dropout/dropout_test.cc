#include "ops/dropout/dropout.h"

#include <cmath>

#include "gtest/gtest.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/base/random.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

TEST(DropoutTest, KeepsAShareAndScalesIt) {
  const int64_t n = 100003;
  for (double p : {0.1, 0.5, 0.9}) {
    const Tensor y = Dropout(Tensor::Full({n}, 1), p, 3, 5);
    int64_t kept = 0;
    for (double v : y.ToDoubles()) {
      if (v == 0) continue;
      EXPECT_NEAR(v, 1 / (1 - p), 1e-3);  // p is rounded to 2^-16
      ++kept;
    }
    EXPECT_NEAR(kept, n * (1 - p), 5 * std::sqrt(n * p * (1 - p)));
  }
}

TEST(DropoutTest, IsAFunctionOfSeedAndStreamForAnyThreads) {
  const Tensor x = RandomNormal({50021}, 1, kF32);
  SetNumThreads(1);
  const Tensor one = Dropout(x, 0.3, 7, 9);
  for (int threads : {2, 3, 7}) {
    SetNumThreads(threads);
    ExpectIdentical(Dropout(x, 0.3, 7, 9), one, "threads");
  }
  EXPECT_NE(Dropout(x, 0.3, 8, 9).ToDoubles(), one.ToDoubles());
  EXPECT_NE(Dropout(x, 0.3, 7, 10).ToDoubles(), one.ToDoubles());
}

TEST(DropoutTest, TheGradientHasTheSameMask) {
  for (DType dtype : {kF32, kF64, kBF16}) {
    Tensor x = Tensor::Full({37}, 1, dtype);
    Tape tape;
    tape.Watch(x);
    const Tensor y = Dropout(x, 0.5, 1, 2);
    const Gradients grads = tape.Backward({y}, {Tensor::Full({37}, 1, dtype)}, {});
    ExpectIdentical(grads[x], y, "gradient of ones");
  }
}

class DropoutTargetsTest : public EachTarget {};
RESIDUAL_EACH_TARGET(DropoutTargetsTest);

// Element by element what the header says, also around vectors and past the caches, there and back.
TEST_P(DropoutTargetsTest, KeepsWhatPhiloxSays) {
  const uint64_t seed = 0x123456789abcdef0, stream = 0xfedcba9876543210;
  const Philox random(seed, stream);
  const double p = 0.3;
  for (int64_t n :
       {1, 3, 4, 17, 63, 64, 65, 127, 128, 129, 255, 16384, 16384 * 2 + 77, (4 << 20) + 5}) {
    for (DType dtype : {kF32, kF64, kBF16}) {
      if (n > 100000 && dtype != kF32) continue;
      Tensor x = RandomNormal({n}, 3, dtype);
      Tape tape;
      tape.Watch(x);
      const Tensor y = Dropout(x, p, seed, stream);
      const Tensor dx = tape.Backward({y}, {x}, {})[x];
      const std::vector<double> in = x.ToDoubles(), out = y.ToDoubles();
      int64_t wrong = 0;
      for (int64_t i = 0; i < n; ++i) {
        const bool keep = random.Bits16(static_cast<uint64_t>(i)) >= 19661;  // of 65536
        const double kept = keep ? in[i] / (1 - 19661 / 65536.0) : 0;
        wrong += std::abs(out[i] - kept) > std::abs(kept) * (dtype == kBF16 ? 0.004 : 2e-7);
      }
      EXPECT_EQ(wrong, 0) << n << " " << Name(dtype);
      ExpectIdentical(dx, y, "the gradient of x by x");
      const NoTape no_tape;
      ExpectIdentical(Dropout(x, p, seed, stream), y, "without a tape");
    }
  }
}

TEST(DropoutTest, NothingToDrop) {
  const Tensor x = RandomNormal({4}, 1, kF32);
  EXPECT_EQ(Dropout(x, 0, 1, 1).raw_data(), x.raw_data());
  EXPECT_EQ(Dropout(Tensor::Zeros({0, 3}), 0.5, 1, 1).elements(), 0);
  EXPECT_DEATH(Dropout(x, 1.0, 1, 1), "dropout: check failed");
}

}  // namespace
}  // namespace residual
