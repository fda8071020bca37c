#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/embedding/embedding_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target:
#include "hwy/highway.h"
#include "ops/embedding/embedding_kernels.h"
#include "ops/simd/convert-inl.h"
#include "tensor/core/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace embedding_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using residual::HWY_NAMESPACE::LoadWidened;
using residual::HWY_NAMESPACE::StoreRounded;

// A vector of sums is carried through all rows, so the sum is written once and a step costs one
// load and one addition; four vectors, so that a row gives whole cache lines and the additions
// overlap.
template <class T>
void SumRows(const SumRowsArgs& args) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
  const T* updates = static_cast<const T*>(args.updates);
  T* sum = static_cast<T*>(args.sum);
  int64_t c = args.begin;
  for (; c + 4 * lanes <= args.end; c += 4 * lanes) {
    const T* HWY_RESTRICT first = updates + args.positions[0] * args.d + c;
    auto s0 = hn::LoadU(d, first), s1 = hn::LoadU(d, first + lanes);
    auto s2 = hn::LoadU(d, first + 2 * lanes), s3 = hn::LoadU(d, first + 3 * lanes);
    for (int64_t i = 1; i < args.count; ++i) {
      const T* HWY_RESTRICT row = updates + args.positions[i] * args.d + c;
      s0 = hn::Add(s0, hn::LoadU(d, row));
      s1 = hn::Add(s1, hn::LoadU(d, row + lanes));
      s2 = hn::Add(s2, hn::LoadU(d, row + 2 * lanes));
      s3 = hn::Add(s3, hn::LoadU(d, row + 3 * lanes));
    }
    hn::StoreU(s0, d, sum + c);
    hn::StoreU(s1, d, sum + c + lanes);
    hn::StoreU(s2, d, sum + c + 2 * lanes);
    hn::StoreU(s3, d, sum + c + 3 * lanes);
  }
  for (; c < args.end; ++c) {
    T total = updates[args.positions[0] * args.d + c];
    for (int64_t i = 1; i < args.count; ++i) total += updates[args.positions[i] * args.d + c];
    sum[c] = total;
  }
}

void SumRowsF32(const SumRowsArgs& args) { SumRows<float>(args); }
void SumRowsF64(const SumRowsArgs& args) { SumRows<double>(args); }

void SumRowsBF16(const SumRowsArgs& args) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = hn::Lanes(d);
  const BFloat16* updates = static_cast<const BFloat16*>(args.updates);
  BFloat16* sum = static_cast<BFloat16*>(args.sum);
  int64_t c = args.begin;
  for (; c + lanes <= args.end; c += lanes) {
    auto total = hn::Zero(d);
    for (int64_t i = 0; i < args.count; ++i) {
      total = hn::Add(total, LoadWidened(d, updates + args.positions[i] * args.d + c));
    }
    StoreRounded(total, d, sum + c);
  }
  for (; c < args.end; ++c) {
    float total = 0;
    for (int64_t i = 0; i < args.count; ++i) {
      total += updates[args.positions[i] * args.d + c].ToFloat();
    }
    sum[c] = BFloat16::FromFloat(total);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace embedding_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace embedding_internal {

HWY_EXPORT(SumRowsF32);
HWY_EXPORT(SumRowsF64);
HWY_EXPORT(SumRowsBF16);

void SumRowsF32(const SumRowsArgs& args) { HWY_DYNAMIC_DISPATCH(SumRowsF32)(args); }
void SumRowsF64(const SumRowsArgs& args) { HWY_DYNAMIC_DISPATCH(SumRowsF64)(args); }
void SumRowsBF16(const SumRowsArgs& args) { HWY_DYNAMIC_DISPATCH(SumRowsBF16)(args); }

}  // namespace embedding_internal
}  // namespace residual
#endif  // HWY_ONCE
