// Causal convolution is a product of polynomials modulo x^n + i, n >= length. A coefficient past
// x^n comes back times -i: where all numbers are real it lands in the imaginary part, and the real
// part is the sum over s <= t as it should be. So n complex elements do what takes a padded real
// transform of 2 n, and there is no half of a spectrum to put right: the coefficients are turned by
// the roots of -i (the twist), transformed, multiplied and taken back. Every term with a negative
// power, of a kernel that looks ahead or of a gradient, is x^(-m) = i x^(n-m), the imaginary part
// of a coefficient nobody else uses. The order of frequencies does not matter.
//
// The first stage reads the sequence, the last one writes it, and the middle one multiplies while
// elements are in registers: a row goes through memory as often as there are stages, less one, each
// way.
//
// Measured against PyTorch's rfft, product and irfft of padded sequences, [8, length, 256] f32 on
// two threads of a Zen 4, in one run (tests/peers): 1024 positions 2.2 ms against 7.7, there and
// back 5.3 against 50; 4096: 7.8 against 135, 22 against 391; 16384: 46 against 647, 117 against
// 1610. Not tried, for each could save little: keeping a kernel's transform for the backward pass
// (there 2 of 26 transforms of 8 rows are kernels'), keeping those of u (as many bytes again as u
// has, twice).

#include "ops/fft/fft_conv_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/fft/fft_conv_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include <algorithm>
#include <type_traits>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "ops/fft/fft-inl.h"
#include "ops/simd/convert-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace fft_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using residual::HWY_NAMESPACE::LoadWidened;
using residual::HWY_NAMESPACE::StoreRounded;

// Positions ahead that are asked for: rows lie apart, where the processor does not look by itself.
constexpr int64_t kAhead = 8;

// A vector's worth of channels of one row of the batch; `width` of its lanes are channels, the
// others read zero.
template <class Element>
struct Sequence {
  Element* first;  // at position 0
  int64_t length, channels, width;

  template <class D>
  HWY_INLINE hn::Vec<D> Load(D d, int64_t t) const {
    if (width == LanesOf(d)) return LoadWidened(d, first + t * channels);
    HWY_ALIGN std::remove_const_t<Element> part[HWY_MAX_BYTES / sizeof(Element)] = {};
    std::copy_n(first + t * channels, width, part);
    return LoadWidened(d, part);
  }

  template <class D>
  HWY_INLINE void Store(D d, hn::Vec<D> v, int64_t t) const {
    if (width == LanesOf(d)) return StoreAll(d, v, first + t * channels);
    HWY_ALIGN Element part[HWY_MAX_BYTES / sizeof(Element)];
    StoreAll(d, v, part);
    std::copy_n(part, width, first + t * channels);
  }
  template <class D>
  static HWY_INLINE void StoreAll(D d, hn::Vec<D> v, Element* to) {
    if constexpr (std::is_same<Element, hn::TFromD<D>>::value) {
      hn::StoreU(v, d, to);
    } else {
      StoreRounded(v, d, to);
    }
  }

  HWY_INLINE void Fetch(int64_t t) const { hwy::Prefetch(first + t * channels); }
};

// Whether every vector of a sequence can be written past the caches, a line at a time.
template <class D, class Element>
bool StreamsLines(D d, const Sequence<Element>& y) {
  return y.width == LanesOf(d) && y.width * sizeof(Element) == 64 &&
         y.channels * sizeof(Element) % 64 == 0 && reinterpret_cast<uintptr_t>(y.first) % 64 == 0;
}

// Channels of a task that fit a vector, on their way through all rows.
template <class D>
class Block {
 public:
  using T = hn::TFromD<D>;
  using V = hn::Vec<D>;

  Block(D d, const ConvFilter<T>& filter, int64_t begin, int64_t width)
      : d_(d),
        filter_(filter),
        plan_(filter.plan->plan),
        twist_(filter.plan->twist.data()),
        begin_(begin),
        width_(width),
        n_(plan_.n),
        element_(2 * LanesOf(d)) {}

  // The kernels' transform / n.
  void Spectrum(T* to) const {
    const int64_t lanes = LanesOf(d_);
    std::fill_n(to, n_ * element_, T{0});
    ForTiles(0, filter_.taps, [&](int64_t l, int64_t s) {
      to[s * element_ + l] = filter_.kernel[(begin_ + l) * filter_.row_taps + s];
      if (filter_.reverse == nullptr) return;
      const T reverse = filter_.reverse[(begin_ + l) * filter_.row_taps + s];
      if (s == 0) {
        to[l] += reverse;
      } else {
        to[(n_ - s) * element_ + lanes + l] = reverse;
      }
    });
    for (int64_t l = 0; l < width_ && filter_.D != nullptr; ++l) to[l] += filter_.D[begin_ + l];
    const T scale = T{1} / static_cast<T>(n_);
    for (int64_t t = 0; t < n_; ++t) {
      const T w[2] = {scale * twist_[2 * t], scale * twist_[2 * t + 1]};
      V re = hn::Load(d_, to + t * element_), im = hn::Load(d_, to + t * element_ + lanes);
      Turn(d_, w, re, im);
      hn::Store(re, d_, to + t * element_);
      hn::Store(im, d_, to + t * element_ + lanes);
    }
    HWY_NAMESPACE::Forward(d_, plan_, 0, to);
  }

  // And from the gradient of that, not divided: dkernel [channels, taps], and so on.
  void SpectrumBack(T* from, T* dkernel, T* dreverse, T* dD) const {
    const int64_t lanes = LanesOf(d_);
    Inverse(d_, plan_, 0, from);
    const T scale = T{1} / static_cast<T>(n_);
    for (int64_t t = 0; t < n_; ++t) {
      const T w[2] = {scale * twist_[2 * t], scale * twist_[2 * t + 1]};
      V re = hn::Load(d_, from + t * element_), im = hn::Load(d_, from + t * element_ + lanes);
      Turn(d_, w, im, re);
      hn::Store(re, d_, from + t * element_);
      hn::Store(im, d_, from + t * element_ + lanes);
    }
    ForTiles(0, filter_.taps, [&](int64_t l, int64_t s) {
      const int64_t to = (begin_ + l) * filter_.taps + s;
      dkernel[to] = from[s * element_ + l];
      if (dreverse == nullptr) return;
      dreverse[to] = s == 0 ? from[l] : from[(n_ - s) * element_ + lanes + l];
    });
    std::copy_n(from, width_, dD + begin_);
  }

  // The first stage, of a sequence in memory.
  template <class Element>
  void Read(const Sequence<const Element>& u, T* to) const {
    WithRadix(plan_.stages[0].radix, [&](auto r) { ReadAs<r()>(u, to); });
  }

  // The last stage back, to a sequence in memory; `added` may have no memory.
  template <class Element>
  void Write(const T* from, const Sequence<const Element>& added, const Sequence<Element>& y,
             bool stream) const {
    stream = stream && StreamsLines(d_, y);
    WithRadix(plan_.stages[0].radix, [&](auto r) {
      if constexpr (std::is_same<Element, T>::value) {
        if (stream) return WriteAs<r(), true>(from, added, y);
      }
      WriteAs<r(), false>(from, added, y);
    });
  }

  // x = what the product of x and the spectrum is before all stages but the first.
  void Convolve(T* x, const T* spectrum) const {
    WithLastRadix([&](auto r) {
      ForBlocks(2, x, static_cast<T*>(nullptr), true, [&](int64_t offset, int64_t blocks) {
        Multiply<r()>(x + offset, spectrum + offset, blocks);
      });
    });
  }

  // sum += conj(u) dy, and dy = what conj(spectrum) dy is before all stages but the first. Without
  // u no sum, without a spectrum no product.
  void ConvolveBack(T* dy, T* u, const T* spectrum, T* sum) const {
    const int64_t buffers = (u != nullptr ? 3 : 1) + (spectrum != nullptr);
    WithLastRadix([&](auto r) {
      ForBlocks(buffers, dy, u, spectrum != nullptr, [&](int64_t offset, int64_t blocks) {
        MultiplyBack<r()>(dy + offset, u != nullptr ? u + offset : nullptr,
                          spectrum != nullptr ? spectrum + offset : nullptr, sum + offset, blocks);
      });
    });
  }

 private:
  // f(lane, t) for all channels and t in [begin, end), a few positions of one channel after the
  // other: a line of either layout is used up while it is near.
  template <class F>
  void ForTiles(int64_t begin, int64_t end, F f) const {
    constexpr int64_t kTile = 16;
    for (int64_t first = begin; first < end; first += kTile) {
      for (int64_t l = 0; l < width_; ++l) {
        for (int64_t t = first; t < std::min(end, first + kTile); ++t) f(l, t);
      }
    }
  }

  template <int r, class Element>
  HWY_NOINLINE void ReadAs(const Sequence<const Element>& sequence, T* HWY_RESTRICT to) const {
    const Sequence<const Element> u = sequence;
    const Stage<T>& stage = plan_.stages[0];
    const int64_t m = stage.sub;
    const T* HWY_RESTRICT w = stage.twiddles.data();
    for (int64_t j = 0; j < m; ++j, to += element_, w += 2 * (r - 1)) {
      const Elements<D, T> elements{d_, to, m * element_};
      const auto load = [&](int k, V& re, V& im) {
        const int64_t t = j + k * m;
        if (t >= u.length) {
          re = im = hn::Zero(d_);
          return;
        }
        u.Fetch(t + kAhead);
        const V v = u.Load(d_, t);
        re = hn::Mul(v, hn::Set(d_, twist_[2 * t]));
        im = hn::Mul(v, hn::Set(d_, twist_[2 * t + 1]));
      };
      ForwardElement<r>(d_, w, load, [&](int p, V re, V im) { elements.Store(p, re, im); });
    }
  }

  template <int r, bool kStream, class Element>
  HWY_NOINLINE void WriteAs(const T* HWY_RESTRICT from, const Sequence<const Element>& more,
                            const Sequence<Element>& sequence) const {
    const Sequence<const Element> added = more;
    const Sequence<Element> y = sequence;
    const Stage<T>& stage = plan_.stages[0];
    const int64_t m = stage.sub;
    const T* HWY_RESTRICT w = stage.twiddles.data();
    for (int64_t j = 0; j < m; ++j, from += element_, w += 2 * (r - 1)) {
      const Elements<D, const T> elements{d_, from, m * element_};
      const auto load = [&](int p, V& re, V& im) { elements.Load(p, re, im); };
      InverseElement<r>(d_, w, load, [&](int k, V re, V im) {
        const int64_t t = j + k * m;
        if (t >= y.length) return;
        V v =
            hn::MulAdd(re, hn::Set(d_, twist_[2 * t]), hn::Mul(im, hn::Set(d_, twist_[2 * t + 1])));
        if (added.first != nullptr) v = hn::Add(v, added.Load(d_, t));
        if constexpr (kStream) {
          hn::Stream(v, d_, reinterpret_cast<T*>(y.first + t * y.channels));
        } else {
          y.Store(d_, v, t);
        }
      });
    }
  }

  template <class F>
  void WithLastRadix(F f) const {
    if (plan_.stages.back().radix == 4) {
      f(std::integral_constant<int, 4>());
    } else {
      f(std::integral_constant<int, 8>());
    }
  }

  // Takes x, and y if there is one, from after the first stage to before the last, where it calls
  // leaf(offset of some blocks, their number), and x back again if `back`. Depth first: what one
  // stage leaves in a cache, the next one finds there.
  template <class Leaf>
  void ForBlocks(int64_t buffers, T* x, T* y, bool back, Leaf leaf) const {
    for (int p = 0; p < plan_.stages[0].radix; ++p)
      ForBlock(1, p * plan_.stages[0].sub * element_, buffers, x, y, back, leaf);
  }
  template <class Leaf>
  void ForBlock(size_t first, int64_t offset, int64_t buffers, T* x, T* y, bool back,
                Leaf leaf) const {
    const size_t last = plan_.stages.size() - 1;
    const Stage<T>& stage = plan_.stages[first];
    const int64_t n = stage.radix * stage.sub;
    if (first < last && !StaysNear(d_, n, buffers)) {
      RunAnyStage<false>(d_, stage, x + offset, 1);
      if (y != nullptr) RunAnyStage<false>(d_, stage, y + offset, 1);
      for (int p = 0; p < stage.radix; ++p)
        ForBlock(first + 1, offset + p * stage.sub * element_, buffers, x, y, back, leaf);
      if (back) RunAnyStage<true>(d_, stage, x + offset, 1);
      return;
    }
    const auto blocks = [&](size_t s) { return n / (plan_.stages[s].radix * plan_.stages[s].sub); };
    for (size_t s = first; s < last; ++s) {
      RunAnyStage<false>(d_, plan_.stages[s], x + offset, blocks(s));
      if (y != nullptr) RunAnyStage<false>(d_, plan_.stages[s], y + offset, blocks(s));
    }
    leaf(offset, blocks(last));
    for (size_t s = last; back && s-- > first;) {
      RunAnyStage<true>(d_, plan_.stages[s], x + offset, blocks(s));
    }
  }

  // The last stage, the product, and the last stage back.
  template <int r>
  HWY_NOINLINE void Multiply(T* HWY_RESTRICT x, const T* HWY_RESTRICT spectrum,
                             int64_t blocks) const {
    const D d;
    const int64_t element = 2 * LanesOf(d);
    for (; blocks > 0; --blocks, x += r * element, spectrum += r * element) {
      const Elements<D, T> elements{d, x, element};
      const Elements<D, const T> factors{d, spectrum, element};
      V re[r], im[r];
#pragma GCC unroll 8
      for (int k = 0; k < r; ++k) elements.Load(k, re[k], im[k]);
      Dft<r>(d, re, im);
#pragma GCC unroll 8
      for (int p = 0; p < r; ++p) {
        V factor_re, factor_im;
        factors.Load(p, factor_re, factor_im);
        const V product = hn::NegMulAdd(im[p], factor_im, hn::Mul(re[p], factor_re));
        im[p] = hn::MulAdd(re[p], factor_im, hn::Mul(im[p], factor_re));
        re[p] = product;
      }
      Dft<r>(d, im, re);
#pragma GCC unroll 8
      for (int k = 0; k < r; ++k) elements.Store(k, re[k], im[k]);
    }
  }

  template <int r>
  HWY_NOINLINE void MultiplyBack(T* HWY_RESTRICT dy, T* HWY_RESTRICT u,
                                 const T* HWY_RESTRICT spectrum, T* HWY_RESTRICT sum,
                                 int64_t blocks) const {
    const D d;
    const int64_t element = 2 * LanesOf(d), step = r * element;
    if (u != nullptr) RunLastStage<r, false>(d, u, blocks);
    for (int64_t b = 0; b < blocks; ++b) {
      const Elements<D, T> gradients{d, dy + b * step, element};
      V re[r], im[r];
#pragma GCC unroll 8
      for (int k = 0; k < r; ++k) gradients.Load(k, re[k], im[k]);
      Dft<r>(d, re, im);
      if (u != nullptr) {
        const Elements<D, T> inputs{d, u + b * step, element}, sums{d, sum + b * step, element};
#pragma GCC unroll 8
        for (int p = 0; p < r; ++p) {
          V u_re, u_im, sum_re, sum_im;
          inputs.Load(p, u_re, u_im);
          sums.Load(p, sum_re, sum_im);
          sum_re = hn::MulAdd(u_re, re[p], hn::MulAdd(u_im, im[p], sum_re));
          sum_im = hn::MulAdd(u_re, im[p], hn::NegMulAdd(u_im, re[p], sum_im));
          sums.Store(p, sum_re, sum_im);
        }
      }
      if (spectrum == nullptr) continue;
      const Elements<D, const T> factors{d, spectrum + b * step, element};
#pragma GCC unroll 8
      for (int p = 0; p < r; ++p) {
        V factor_re, factor_im;
        factors.Load(p, factor_re, factor_im);
        const V product = hn::MulAdd(im[p], factor_im, hn::Mul(re[p], factor_re));
        im[p] = hn::NegMulAdd(re[p], factor_im, hn::Mul(im[p], factor_re));
        re[p] = product;
      }
      Dft<r>(d, im, re);
#pragma GCC unroll 8
      for (int k = 0; k < r; ++k) gradients.Store(k, re[k], im[k]);
    }
  }

  const D d_;
  const ConvFilter<T>& filter_;
  const Plan<T>& plan_;
  const T* const twist_;
  const int64_t begin_, width_, n_, element_;
};

// f(block, the sequence in x of row b) for the vectors of a task.
template <class T, class F>
void ForVectors(const ConvFilter<T>& filter, const ConvPart& part, F f) {
  const hn::ScalableTag<T> d;
  for (int64_t c = part.begin; c < part.end; c += LanesOf(d)) {
    const int64_t width = std::min(LanesOf(d), part.end - c);
    f(Block<decltype(d)>(d, filter, c, width), [&filter, c, width](auto* x, int64_t row) {
      using Element = std::remove_pointer_t<decltype(x)>;
      return Sequence<Element>{
          x != nullptr ? x + row * filter.length * filter.channels + c : nullptr, filter.length,
          filter.channels, width};
    });
  }
}

template <class T, class Element>
void Forward(const ConvFilter<T>& filter, const ConvSignals<Element>& signals, const ConvPart& part,
             T* scratch) {
  T* const spectrum = scratch + ScratchOf(*filter.plan, 1);
  ForVectors(filter, part, [&](const auto& block, auto sequence) {
    block.Spectrum(spectrum);
    for (int64_t row = part.row_begin; row < part.row_end; ++row) {
      block.Read(sequence(signals.u, row), scratch);
      block.Convolve(scratch, spectrum);
      block.Write(scratch, sequence(signals.added, row), sequence(signals.y, row), signals.stream);
    }
  });
  if (signals.stream) hwy::FlushStream();
}

template <class T, class Element>
void Backward(const ConvFilter<T>& filter, const ConvGradients<T, Element>& g, const ConvPart& part,
              T* scratch) {
  const int64_t buffer = ScratchOf(*filter.plan, 1);
  T *const dy = scratch, *const u = g.u != nullptr ? scratch + buffer : nullptr;
  T *const spectrum = g.du != nullptr ? scratch + 2 * buffer : nullptr, *const sum =
                                                                            scratch + 3 * buffer;
  const Element* const none = nullptr;
  ForVectors(filter, part, [&](const auto& block, auto sequence) {
    if (g.du != nullptr) block.Spectrum(spectrum);
    if (g.u != nullptr) std::fill_n(sum, buffer, T{0});
    for (int64_t row = part.row_begin; row < part.row_end; ++row) {
      block.Read(sequence(g.dy, row), dy);
      if (g.u != nullptr) block.Read(sequence(g.u, row), u);
      block.ConvolveBack(dy, u, spectrum, sum);
      if (g.du != nullptr) block.Write(dy, sequence(none, row), sequence(g.du, row), g.stream);
    }
    if (g.u != nullptr) block.SpectrumBack(sum, g.dkernel, g.dreverse, g.dD);
  });
  if (g.stream) hwy::FlushStream();
}

void ForwardF32(const ConvFilter<float>& filter, const ConvSignals<float>& signals,
                const ConvPart& part, float* scratch) {
  Forward(filter, signals, part, scratch);
}
void ForwardBF16(const ConvFilter<float>& filter, const ConvSignals<BFloat16>& signals,
                 const ConvPart& part, float* scratch) {
  Forward(filter, signals, part, scratch);
}
void ForwardF64(const ConvFilter<double>& filter, const ConvSignals<double>& signals,
                const ConvPart& part, double* scratch) {
  Forward(filter, signals, part, scratch);
}
void BackwardF32(const ConvFilter<float>& filter, const ConvGradients<float, float>& g,
                 const ConvPart& part, float* scratch) {
  Backward(filter, g, part, scratch);
}
void BackwardBF16(const ConvFilter<float>& filter, const ConvGradients<float, BFloat16>& g,
                  const ConvPart& part, float* scratch) {
  Backward(filter, g, part, scratch);
}
void BackwardF64(const ConvFilter<double>& filter, const ConvGradients<double, double>& g,
                 const ConvPart& part, double* scratch) {
  Backward(filter, g, part, scratch);
}

}  // namespace HWY_NAMESPACE
}  // namespace fft_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace fft_internal {

HWY_EXPORT(ForwardF32);
HWY_EXPORT(ForwardBF16);
HWY_EXPORT(ForwardF64);
HWY_EXPORT(BackwardF32);
HWY_EXPORT(BackwardBF16);
HWY_EXPORT(BackwardF64);

void ConvForward(const ConvFilter<float>& filter, const ConvSignals<float>& signals,
                 const ConvPart& part, float* scratch) {
  HWY_DYNAMIC_DISPATCH(ForwardF32)(filter, signals, part, scratch);
}
void ConvForward(const ConvFilter<float>& filter, const ConvSignals<BFloat16>& signals,
                 const ConvPart& part, float* scratch) {
  HWY_DYNAMIC_DISPATCH(ForwardBF16)(filter, signals, part, scratch);
}
void ConvForward(const ConvFilter<double>& filter, const ConvSignals<double>& signals,
                 const ConvPart& part, double* scratch) {
  HWY_DYNAMIC_DISPATCH(ForwardF64)(filter, signals, part, scratch);
}
void ConvBackward(const ConvFilter<float>& filter, const ConvGradients<float, float>& g,
                  const ConvPart& part, float* scratch) {
  HWY_DYNAMIC_DISPATCH(BackwardF32)(filter, g, part, scratch);
}
void ConvBackward(const ConvFilter<float>& filter, const ConvGradients<float, BFloat16>& g,
                  const ConvPart& part, float* scratch) {
  HWY_DYNAMIC_DISPATCH(BackwardBF16)(filter, g, part, scratch);
}
void ConvBackward(const ConvFilter<double>& filter, const ConvGradients<double, double>& g,
                  const ConvPart& part, double* scratch) {
  HWY_DYNAMIC_DISPATCH(BackwardF64)(filter, g, part, scratch);
}

}  // namespace fft_internal
}  // namespace residual
#endif  // HWY_ONCE
