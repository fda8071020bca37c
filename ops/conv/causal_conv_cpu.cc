#include <algorithm>
#include <memory>
#include <type_traits>

#include "ops/conv/causal_conv_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/conv/causal_conv_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/highway.h"
#include "ops/simd/activation-inl.h"
#include "ops/simd/convert-inl.h"
#include "ops/simd/vec_math-inl.h"
#include "tensor/core/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace conv_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using residual::HWY_NAMESPACE::LoadWidened;
using residual::HWY_NAMESPACE::StoreRounded;
using residual::HWY_NAMESPACE::VecSilu;
using residual::HWY_NAMESPACE::VecSiluSlope;

// A lane is a channel.
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// `count` lanes of p, or all of them; the others read zero and are not written.
template <bool kAll, class T>
HWY_INLINE V Load(D d, const T* p, int64_t count) {
  if (kAll) return LoadWidened(d, p);
  HWY_ALIGN T part[HWY_MAX_BYTES / sizeof(float)] = {};
  std::copy_n(p, count, part);
  return LoadWidened(d, part);
}
template <bool kAll, class T>
HWY_INLINE void Store(D d, V v, T* p, int64_t count) {
  if (kAll) return StoreRounded(v, d, p);
  HWY_ALIGN T part[HWY_MAX_BYTES / sizeof(float)];
  StoreRounded(v, d, part);
  std::copy_n(part, count, p);
}

// Calls body(all, c, count) for the channels [c, c + count): as many as a vector has lanes, `all`
// being std::true_type, but for the last ones.
template <class Body>
HWY_INLINE void ForChannels(int64_t channels, Body body) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  int64_t c = 0;
  for (; c + lanes <= channels; c += lanes) body(std::true_type(), c, lanes);
  if (c < channels) body(std::false_type(), c, channels - c);
}

const float* Floats(const void* p) { return static_cast<const float*>(p); }

// Before the activation. Taps are added in order, zeros too: the bits do not depend on how a
// sequence is cut. kWidth: the width, or 0 for any.
template <bool kAll, int kWidth, class T>
HWY_INLINE V Pre(D d, const ConvArgs& a, const T* const* taps, int64_t c, int64_t count) {
  V sum = a.bias != nullptr ? Load<kAll>(d, Floats(a.bias) + c, count) : hn::Zero(d);
  const int64_t width = kWidth > 0 ? kWidth : a.width;
  for (int64_t j = 0; j < width; ++j) {
    sum = hn::MulAdd(Load<kAll>(d, Floats(a.weight) + j * a.channels + c, count),
                     Load<kAll>(d, taps[j] + c, count), sum);
  }
  return sum;
}

// body(position within the row, its taps).
template <class T, class Body>
HWY_INLINE void ForPositions(const ConvArgs& a, int64_t row, int64_t begin, int64_t end,
                             Body body) {
  constexpr int64_t kMost = 16;
  const T* few[kMost];
  const std::unique_ptr<const T*[]> many(a.width > kMost ? new const T*[a.width] : nullptr);
  const T** taps = many != nullptr ? many.get() : few;
  for (int64_t t = begin; t < end; ++t) {
    for (int64_t j = 0; j < a.width; ++j) taps[j] = a.Tap<T>(row, t, j);
    body(t, taps);
  }
}

template <class T, int kWidth>
void ForwardOfWidth(const ConvArgs& a, int64_t row, int64_t begin, int64_t end, T* to) {
  const D d;
  ForPositions<T>(a, row, begin, end, [&](int64_t t, const T* const* taps) HWY_ATTR {
    T* y = to + (row * a.length + t) * a.channels;
    ForChannels(a.channels, [&](auto all, int64_t c, int64_t count) HWY_ATTR {
      const V pre = Pre<all.value, kWidth>(d, a, taps, c, count);
      Store<all.value>(d, a.silu ? VecSilu(d, pre) : pre, y + c, count);
    });
  });
}

template <class T>
void Forward(const ConvArgs& a, int64_t row, int64_t begin, int64_t end, void* y) {
  // 4 is the width of every published Mamba.
  const auto run = a.width == 4 ? ForwardOfWidth<T, 4> : ForwardOfWidth<T, 0>;
  run(a, row, begin, end, static_cast<T*>(y));
}

template <class T>
void BeforeSilu(const ConvArgs& a, int64_t row, int64_t begin, int64_t end, const void* from,
                void* to) {
  const D d;
  ForPositions<T>(a, row, begin, end, [&](int64_t t, const T* const* taps) HWY_ATTR {
    const int64_t at = (row * a.length + t) * a.channels;
    const T* dy = static_cast<const T*>(from) + at;
    float* dpre = static_cast<float*>(to) + at;
    ForChannels(a.channels, [&](auto all, int64_t c, int64_t count) HWY_ATTR {
      const V slope = VecSiluSlope(d, Pre<all.value, 0>(d, a, taps, c, count));
      Store<all.value>(d, hn::Mul(Load<all.value>(d, dy + c, count), slope), dpre + c, count);
    });
  });
}

template <class T>
void Input(const ConvArgs& a, int64_t row, int64_t begin, int64_t end, const InputGradients& g) {
  const D d;
  const int64_t past = a.width - 1;
  for (int64_t t = begin; t < end; ++t) {
    const T* dlast = nullptr;
    if (g.dlast != nullptr && t >= a.length - past && t >= a.First(row, a.length - 1)) {
      dlast = static_cast<const T*>(g.dlast) + (row * past + t - (a.length - past)) * a.channels;
    }
    T* dx = t < 0 ? static_cast<T*>(g.dbefore) + (row * past + past + t) * a.channels
                  : static_cast<T*>(g.dx) + (row * a.length + t) * a.channels;
    ForChannels(a.channels, [&](auto all, int64_t c, int64_t count) HWY_ATTR {
      V sum = dlast != nullptr ? Load<all.value>(d, dlast + c, count) : hn::Zero(d);
      for (int64_t j = 0; j < a.width; ++j) {
        const int64_t reader = t + past - j;
        if (reader < 0 || reader >= a.length || a.First(row, reader) > t) continue;
        const int64_t at = (row * a.length + reader) * a.channels;
        sum = hn::MulAdd(Load<all.value>(d, Floats(a.weight) + j * a.channels + c, count),
                         Load<all.value>(d, Floats(g.dpre) + at + c, count), sum);
      }
      Store<all.value>(d, sum, dx + c, count);
    });
  }
}

template <class T>
void Weight(const ConvArgs& a, int64_t row, int64_t begin, int64_t end, const void* dpre,
            void* to) {
  const D d;
  float* sums = static_cast<float*>(to);
  std::fill_n(sums, (a.width + 1) * a.channels, 0.0f);
  ForPositions<T>(a, row, begin, end, [&](int64_t t, const T* const* taps) HWY_ATTR {
    const float* dy = Floats(dpre) + (row * a.length + t) * a.channels;
    ForChannels(a.channels, [&](auto all, int64_t c, int64_t count) HWY_ATTR {
      const V g = Load<all.value>(d, dy + c, count);
      for (int64_t j = 0; j < a.width; ++j) {
        float* sum = sums + j * a.channels + c;
        Store<all.value>(
            d,
            hn::MulAdd(g, Load<all.value>(d, taps[j] + c, count), Load<all.value>(d, sum, count)),
            sum, count);
      }
      float* sum = sums + a.width * a.channels + c;
      Store<all.value>(d, hn::Add(g, Load<all.value>(d, sum, count)), sum, count);
    });
  });
}

// A lane is a channel, whose taps lie side by side. The general way turns weight, state and new
// state and copies each: 20 us for 1536 channels, where this takes 3 (AVX2).
template <class T>
void Step(const ConvStep& s) {
  constexpr int64_t kMostLanes = HWY_MAX_BYTES / sizeof(float);
  const D d;
  const T *x = static_cast<const T*>(s.x), *before = static_cast<const T*>(s.before);
  T *y = static_cast<T*>(s.y), *last = static_cast<T*>(s.last);
  HWY_ALIGN float taps[4 * kMostLanes] = {}, window[3 * kMostLanes] = {};
  ForChannels(s.channels, [&](auto all, int64_t c, int64_t count) HWY_ATTR {
    V w0, w1, w2, w3, h0 = hn::Zero(d), h1 = h0, h2 = h0;
    const float* weight = s.weight + 4 * c;
    if (!all.value) {
      std::copy_n(weight, 4 * count, taps);
      weight = taps;
    }
    hn::LoadInterleaved4(d, weight, w0, w1, w2, w3);
    if (before != nullptr) {
      const float* from = window;
      if constexpr (std::is_same_v<T, float>) {
        if (all.value) from = before + 3 * c;
      }
      if (from == window) {
        for (int64_t i = 0; i < 3 * count; ++i) {
          window[i] = residual::HWY_NAMESPACE::Widened(before[3 * c + i]);
        }
      }
      hn::LoadInterleaved3(d, from, h0, h1, h2);
    }
    const V now = Load<all.value>(d, x + c, count);
    V sum = s.bias != nullptr ? Load<all.value>(d, s.bias + c, count) : hn::Zero(d);
    sum = hn::MulAdd(w0, h0, sum);
    sum = hn::MulAdd(w1, h1, sum);
    sum = hn::MulAdd(w2, h2, sum);
    sum = hn::MulAdd(w3, now, sum);
    Store<all.value>(d, s.silu ? VecSilu(d, sum) : sum, y + c, count);
    if constexpr (std::is_same_v<T, float>) {
      if (all.value) {
        hn::StoreInterleaved3(h1, h2, now, d, last + 3 * c);
        return;
      }
    }
    for (int64_t i = c; i < c + count; ++i) {
      last[3 * i] = before != nullptr ? before[3 * i + 1] : T{};
      last[3 * i + 1] = before != nullptr ? before[3 * i + 2] : T{};
      last[3 * i + 2] = x[i];
    }
  });
}

ConvKernels OfF32() {
  return {Forward<float>, BeforeSilu<float>, Input<float>, Weight<float>, Step<float>};
}
ConvKernels OfBF16() {
  return {Forward<BFloat16>, BeforeSilu<BFloat16>, Input<BFloat16>, Weight<BFloat16>,
          Step<BFloat16>};
}

}  // namespace HWY_NAMESPACE
}  // namespace conv_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace conv_internal {

HWY_EXPORT(OfF32);
HWY_EXPORT(OfBF16);

ConvKernels KernelsF32() { return HWY_DYNAMIC_DISPATCH(OfF32)(); }
ConvKernels KernelsBF16() { return HWY_DYNAMIC_DISPATCH(OfBF16)(); }

}  // namespace conv_internal
}  // namespace residual
#endif  // HWY_ONCE
