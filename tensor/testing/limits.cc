#include "tensor/testing/limits.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/testing/limits.cc"
#include "hwy/foreach_target.h"
// After foreach_target:
#include <algorithm>
#include <chrono>
#include <map>
#include <utility>
#include <vector>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "tensor/base/check.h"
#include "tensor/base/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace limits_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Chains of multiply-adds, as many as hide their latency. Returns the operations done.
template <class T>
HWY_INLINE double MultiplyAdds(int64_t steps, T* sink) {
  const hn::ScalableTag<T> d;
  const auto x = hn::Set(d, T(0.999)), y = hn::Set(d, T(1e-3));
  constexpr int kChains = 12;
  const auto start = [&](int i) HWY_ATTR { return hn::Set(d, *sink + T(i)); };
  auto c0 = start(0), c1 = start(1), c2 = start(2), c3 = start(3), c4 = start(4), c5 = start(5);
  auto c6 = start(6), c7 = start(7), c8 = start(8), c9 = start(9), c10 = start(10), c11 = start(11);
  for (int64_t i = 0; i < steps; ++i) {
    c0 = hn::MulAdd(c0, x, y);
    c1 = hn::MulAdd(c1, x, y);
    c2 = hn::MulAdd(c2, x, y);
    c3 = hn::MulAdd(c3, x, y);
    c4 = hn::MulAdd(c4, x, y);
    c5 = hn::MulAdd(c5, x, y);
    c6 = hn::MulAdd(c6, x, y);
    c7 = hn::MulAdd(c7, x, y);
    c8 = hn::MulAdd(c8, x, y);
    c9 = hn::MulAdd(c9, x, y);
    c10 = hn::MulAdd(c10, x, y);
    c11 = hn::MulAdd(c11, x, y);
  }
  const auto a = hn::Add(hn::Add(c0, c1), hn::Add(c2, c3));
  const auto b = hn::Add(hn::Add(c4, c5), hn::Add(c6, c7));
  const auto c = hn::Add(hn::Add(c8, c9), hn::Add(c10, c11));
  *sink = hn::GetLane(hn::Add(hn::Add(a, b), c));
  return 2.0 * kChains * steps * hn::Lanes(d);
}

double MultiplyAddsF32(int64_t steps) {
  float sink = 0;
  const double done = MultiplyAdds(steps, &sink);
  return sink == 12345 ? 0 : done;  // sink is used
}
double MultiplyAddsF64(int64_t steps) {
  double sink = 0;
  const double done = MultiplyAdds(steps, &sink);
  return sink == 12345 ? 0 : done;
}

float ReadAll(const float* x, int64_t n) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = hn::Lanes(d);
  auto a = hn::Zero(d), b = a, c = a, e = a;
  for (int64_t i = 0; i + 4 * lanes <= n; i += 4 * lanes) {
    a = hn::Add(a, hn::Load(d, x + i));
    b = hn::Add(b, hn::Load(d, x + i + lanes));
    c = hn::Add(c, hn::Load(d, x + i + 2 * lanes));
    e = hn::Add(e, hn::Load(d, x + i + 3 * lanes));
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(a, b), hn::Add(c, e))));
}

void CopyAll(const float* HWY_RESTRICT x, float* HWY_RESTRICT y, int64_t n) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = hn::Lanes(d);
  for (int64_t i = 0; i + lanes <= n; i += lanes) hn::Stream(hn::Load(d, x + i), d, y + i);
  hwy::FlushStream();
}

}  // namespace HWY_NAMESPACE
}  // namespace limits_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace residual {
namespace limits_internal {
namespace {

HWY_EXPORT(MultiplyAddsF32);
HWY_EXPORT(MultiplyAddsF64);
HWY_EXPORT(ReadAll);
HWY_EXPORT(CopyAll);

#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("avx512f,avx512bf16"))) double DotProducts(int64_t steps) {
  __m512 chains[12];
  for (int i = 0; i < 12; ++i) chains[i] = _mm512_set1_ps(i);
  const __m512bh x = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3c00));
  for (int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < 12; ++c) chains[c] = _mm512_dpbf16_ps(chains[c], x, x);
  }
  __m512 sum = chains[0];
  for (int c = 1; c < 12; ++c) sum = _mm512_add_ps(sum, chains[c]);
  return _mm512_reduce_add_ps(sum) == 12345 ? 0 : 4.0 * 16 * 12 * steps;
}
bool HaveDotProducts() { return __builtin_cpu_supports("avx512bf16"); }
#else
double DotProducts(int64_t) { return 0; }
bool HaveDotProducts() { return false; }
#endif

// The best of several runs of work(i), which returns what it did, on every thread i.
template <class Work>
double BestRate(int runs, Work work) {
  double best = 0;
  const int threads = NumThreads();
  std::vector<double> done(threads);
  for (int run = 0; run < runs; ++run) {
    const auto start = std::chrono::steady_clock::now();
    ParallelFor(threads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) done[i] = work(i);
    });
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    double total = 0;
    for (double d : done) total += d;
    best = std::max(best, total / time.count());
  }
  return best;
}

// What `measure` gave the first time for this key and number of threads.
template <class Measure>
double Once(int key, Measure measure) {
  static std::map<std::pair<int, int>, double>* known = new std::map<std::pair<int, int>, double>;
  double& rate = (*known)[{key, NumThreads()}];
  if (rate == 0) rate = measure();
  return rate;
}

constexpr size_t kBytes = size_t{128} << 20;  // four times the largest caches

double Memory(bool copy) {
  const MemoryTraffic traffic(copy, copy ? 2 * kBytes : kBytes);
  double best = 0;
  for (int run = 0; run < 8; ++run) {
    const auto start = std::chrono::steady_clock::now();
    traffic.Run();
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(traffic.bytes()) / time.count());
  }
  return best;
}

}  // namespace
}  // namespace limits_internal

MemoryTraffic::MemoryTraffic(bool copy, size_t bytes) : bytes_(bytes) {
  const size_t side = copy ? bytes / 2 : bytes;
  from_ = AllocateHost(side);
  std::fill_n(static_cast<float*>(from_->data()), side / sizeof(float), 1.0f);
  if (!copy) return;
  to_ = AllocateHost(side);
  std::fill_n(static_cast<float*>(to_->data()), side / sizeof(float), 0.0f);
}

void MemoryTraffic::Run() const {
  using namespace limits_internal;  // NOLINT: the functions of this file
  const int threads = NumThreads();
  const int64_t floats = static_cast<int64_t>(from_->bytes() / sizeof(float));
  const int64_t part = floats / threads / 64 * 64;
  ParallelFor(threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* x = static_cast<const float*>(from_->data()) + i * part;
      if (to_) {
        HWY_DYNAMIC_DISPATCH(CopyAll)(x, static_cast<float*>(to_->data()) + i * part, part);
      } else {
        RESIDUAL_CHECK(HWY_DYNAMIC_DISPATCH(ReadAll)(x, part) >= 0);  // the sum is used
      }
    }
  });
}

double PeakFlops(DType dtype) {
  using namespace limits_internal;  // NOLINT: the functions of this file
  constexpr int64_t kSteps = 200000;
  if (dtype == kBF16 && !HaveDotProducts()) dtype = kF32;
  return Once(static_cast<int>(dtype), [&] {
    return BestRate(10, [&](int64_t) {
      return dtype == kBF16  ? DotProducts(kSteps)
             : dtype == kF64 ? HWY_DYNAMIC_DISPATCH(MultiplyAddsF64)(kSteps)
                             : HWY_DYNAMIC_DISPATCH(MultiplyAddsF32)(kSteps);
    });
  });
}

double PeakReadBytes() {
  return limits_internal::Once(100, [] { return limits_internal::Memory(false); });
}

double PeakCopyBytes() {
  return limits_internal::Once(101, [] { return limits_internal::Memory(true); });
}

}  // namespace residual
#endif  // HWY_ONCE
