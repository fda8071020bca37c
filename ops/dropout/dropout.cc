#include "ops/dropout/dropout.h"

#include <algorithm>
#include <cmath>

#include "ops/dropout/dropout_kernels.h"
#include "ops/simd/convert.h"
#include "ops/simd/stream.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/base/random.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

// A multiple of 128, the elements that share random words, and a power of two: the elements of a
// chunk have the same upper bits in their number of a block.
constexpr int64_t kGrain = 1 << 14;

// Of 2^16: the share that is dropped.
uint32_t Threshold(double p) {
  return std::min(static_cast<uint32_t>(std::lround(p * 0x1p16)), uint32_t{0xffff});
}
double KeptScale(uint32_t threshold) { return 0x1p16 / (0x1p16 - threshold); }

// y = x * mask / (1 - p): its own backward.
Tensor ApplyF64(const Tensor& x, uint32_t threshold, const Philox& random) {
  Tensor y = Tensor::Uninitialized(x.shape(), kF64);
  const double *in = x.data<double>(), scale = KeptScale(threshold);
  double* out = y.mutable_data<double>();
  ParallelFor(x.elements(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      out[i] = random.Bits16(static_cast<uint64_t>(i)) >= threshold ? in[i] * scale : 0;
    }
  });
  return y;
}

// Calls kernel(in, out, first, n, stream) on parts of x that make up y, in f32: f32 parts are x's
// and y's own, 16-bit ones are widened and rounded.
template <class Kernel>
Tensor InParts(const Tensor& x, Kernel kernel) {
  Tensor y = Tensor::Uninitialized(x.shape(), x.dtype());
  if (x.dtype() == kF32) {
    const float* in = x.data<float>();
    float* out = y.mutable_data<float>();
    const bool stream = PastCaches(y.bytes());
    ParallelFor(x.elements(), kGrain, [&](int64_t begin, int64_t end) {
      kernel(in + begin, out + begin, begin, end - begin, stream);
    });
    return y;
  }
  const uint16_t* in = static_cast<const uint16_t*>(x.raw_data());
  uint16_t* out = static_cast<uint16_t*>(y.mutable_raw_data());
  ParallelFor(x.elements(), kGrain, [&](int64_t begin, int64_t end) {
    constexpr int64_t kPart = 1024;
    alignas(64) float wide[2][kPart];
    for (int64_t i = begin; i < end; i += kPart) {
      const int64_t n = std::min(kPart, end - i);
      Widen(x.dtype(), in + i, wide[0], n);
      kernel(wide[0], wide[1], i, n, false);
      Round(x.dtype(), wide[1], out + i, n);
    }
  });
  return y;
}

}  // namespace

Tensor Dropout(const Tensor& x, double p, uint64_t seed, uint64_t stream) {
  RESIDUAL_CHECK_OP("dropout", IsFloat(x.dtype()) && p >= 0 && p < 1, x);
  if (p == 0) return x;
  const Philox random(seed, stream);
  const uint32_t threshold = Threshold(p);
  const float scale = static_cast<float>(KeptScale(threshold));
  Tape* tape = Tape::For({&x});
  if (x.dtype() == kF64) {
    Tensor y = ApplyF64(x, threshold, random);
    if (tape != nullptr) {
      tape->Record("dropout", {&x}, {&y}, [threshold, random](auto dy, Needs) {
        return TensorList{ApplyF64(dy[0], threshold, random)};
      });
    }
    return y;
  }
  Tensor mask;  // a bit for each element
  uint64_t* bits = nullptr;
  if (tape != nullptr) {
    mask = Tensor::Uninitialized({(x.elements() + 63) / 64}, kI64);
    bits = reinterpret_cast<uint64_t*>(mask.mutable_data<int64_t>());
  }
  Tensor y = InParts(x, [&](const float* in, float* out, int64_t first, int64_t n, bool past) {
    DropoutCpu({in, out, bits == nullptr ? nullptr : bits + first / 64, threshold, scale, past},
               random, first, n);
  });
  if (tape != nullptr) {
    tape->Record("dropout", {&x}, {&y}, [scale, mask](auto dy, Needs) {
      const uint64_t* bits = reinterpret_cast<const uint64_t*>(mask.template data<int64_t>());
      return TensorList{
          InParts(dy[0], [&](const float* in, float* out, int64_t first, int64_t n, bool past) {
            DropoutBackwardCpu({in, out, bits + first / 64, scale, past}, n);
          })};
    });
  }
  return y;
}

}  // namespace residual
