// AttentionOptions::key_length: keys in a cache that has room to grow.

#include <cstring>
#include <limits>

#include "gtest/gtest.h"
#include "ops/attention/attention.h"
#include "tensor/autograd/tape.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

class KeyLengthTest : public EachTarget {};
RESIDUAL_EACH_TARGET(KeyLengthTest);

// x [batch, n, ...] with `room` positions, the new ones NaN.
Tensor WithRoom(const Tensor& x, int64_t room) {
  Tensor wide =
      Tensor::Full(x.shape().With(1, room), std::numeric_limits<double>::quiet_NaN(), x.dtype());
  const int64_t row = x.shape().elements(1, x.rank());
  const size_t bytes = row * SizeOf(x.dtype());
  char* to = static_cast<char*>(wide.mutable_raw_data());
  for (int64_t b = 0; b < x.dim(0); ++b) {
    std::memcpy(to + b * wide.bytes() / x.dim(0),
                static_cast<const char*>(x.raw_data()) + b * bytes, bytes);
  }
  return wide;
}

TEST_P(KeyLengthTest, TheRestIsNotLookedAt) {
  const int64_t batch = 3, key = 37, heads = 4, kv_heads = 2, d_head = 5;
  for (const DType dtype : {kF32, kF64, kBF16}) {
    const Tensor k = RandomNormal({batch, key, kv_heads, d_head}, 1, dtype);
    const Tensor v = RandomNormal({batch, key, kv_heads, d_head}, 2, dtype);
    for (const int64_t query : {1, 3, 20, 37}) {
      const Tensor q = RandomNormal({batch, query, heads, d_head}, 3, dtype);
      AttentionOptions options;
      options.key_mask = Tensor::Full({batch, key}, 1, kBool);
      options.key_mask.mutable_data<bool>()[key + 4] = false;
      options.bias = RandomNormal({batch, heads, query, key}, 4, dtype);
      const Tensor want = Attention(q, k, v, options);
      options.key_length = key;
      for (const int64_t room : {37, 38, 64}) {
        ExpectIdentical(Attention(q, WithRoom(k, room), WithRoom(v, room), options), want, "z");
      }
    }
  }
}

TEST(KeyLengthDeathTest, IsForCachesOnly) {
  Tensor q = Tensor::Zeros({1, 2, 1, 4}), k = Tensor::Zeros({1, 8, 1, 4});
  AttentionOptions options;
  options.key_length = 9;
  EXPECT_DEATH(Attention(q, k, k, options), "attention");
  options.key_length = 5;
  EXPECT_DEATH(AttentionScores(q, k, options), "key_length");
  EXPECT_DEATH(
      {
        Tape tape;
        tape.Watch(q);
        Attention(q, k, k, options);
      },
      "key_length");
  options.key_length = 0;
  options.causal = false;
  ExpectIdentical(Attention(q, k, k, options), Tensor::Zeros({1, 2, 1, 4}), "no keys");
}

}  // namespace
}  // namespace residual
