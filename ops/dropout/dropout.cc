#include "ops/dropout/dropout.h"

#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/base/random.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

// A multiple of 4: a block of Philox serves four elements.
constexpr int64_t kGrain = 1 << 13;

// y = x * mask / (1 - p): its own backward.
Tensor Apply(const Tensor& x, double p, const Philox& random) {
  Tensor y = Tensor::Uninitialized(x.shape(), x.dtype());
  const uint32_t threshold = static_cast<uint32_t>(p * 0x1p24);  // of the upper 24 bits
  const double scale = 1 / (1 - p);
  VisitDType(x.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const T* in = x.data<T>();
    T* out = y.mutable_data<T>();
    ParallelFor(x.elements(), kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i += 4) {
        const auto bits = random.Block(i / 4);
        for (int64_t j = i; j < std::min(end, i + 4); ++j) {
          const bool keep = (bits[j - i] >> 8) >= threshold;
          out[j] = keep ? FromDouble<T>(ToDouble(in[j]) * scale) : T{};
        }
      }
    });
  });
  return y;
}

}  // namespace

Tensor Dropout(const Tensor& x, double p, uint64_t seed, uint64_t stream) {
  RESIDUAL_CHECK_OP("dropout", IsFloat(x.dtype()) && p >= 0 && p < 1, x);
  if (p == 0) return x;
  const Philox random(seed, stream);
  Tensor y = Apply(x, p, random);
  if (Tape* tape = Tape::For({&x})) {
    tape->Record("dropout", {&x}, {&y}, [p, random, shape = x.shape()](auto dy, Needs) {
      return TensorList{Apply(dy[0].Reshaped(shape), p, random)};
    });
  }
  return y;
}

}  // namespace residual
