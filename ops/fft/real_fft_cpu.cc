#include "ops/fft/real_fft_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/fft/real_fft_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/highway.h"
#include "ops/fft/fft-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace fft_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Signals that go together, and their elements in scratch.
template <class D, class T>
class Lanes {
 public:
  Lanes(D d, const AnyPlan<T>& plan, T* x) : d_(d), plan_(plan), x_(x) {}

  // Element j of the signals, and, where it lies by `position`, frequency k.
  T* At(int64_t j) const { return x_ + j * 2 * LanesOf(d_); }
  T* Frequency(int64_t k) const { return At(plan_.position[k]); }

  // Transforms in place, from elements to frequencies or back, unscaled.
  template <bool kInverse>
  void Transform() const {
    if (plan_.uses_chirp()) return TransformByChirp<kInverse>();
    if (kInverse) {
      Inverse(d_, plan_.plan, 0, x_);
    } else {
      Forward(d_, plan_.plan, 0, x_);
    }
  }

 private:
  // The inverse is the transform of what has its parts exchanged, and so exchanged again.
  template <bool kInverse>
  void TransformByChirp() const {
    const int64_t lanes = LanesOf(d_), n = plan_.n, whole = plan_.plan.n;
    const auto turn = [&](int64_t j, const std::complex<T>& w) {
      auto re = hn::Load(d_, At(j)), im = hn::Load(d_, At(j) + lanes);
      const T parts[2] = {w.real(), w.imag()};
      Turn(d_, parts, re, im);
      hn::Store(re, d_, At(j));
      hn::Store(im, d_, At(j) + lanes);
    };
    if (kInverse) Exchange();
    for (int64_t j = 0; j < n; ++j) turn(j, plan_.chirp[j]);
    std::fill(At(n), At(whole), T{0});
    Forward(d_, plan_.plan, 0, x_);
    for (int64_t i = 0; i < whole; ++i) turn(i, plan_.chirp_spectrum[i]);
    Inverse(d_, plan_.plan, 0, x_);
    for (int64_t k = 0; k < n; ++k) turn(k, plan_.chirp[k]);
    if (kInverse) Exchange();
  }

  void Exchange() const {
    const int64_t lanes = LanesOf(d_);
    for (int64_t j = 0; j < plan_.n; ++j) std::swap_ranges(At(j), At(j) + lanes, At(j) + lanes);
  }

  const D d_;
  const AnyPlan<T>& plan_;
  T* const x_;
};

// Columns of rows that are taken at a time, to find a row's neighbours in the same cache line.
constexpr int64_t kTile = 16;

// The rows of a vector: lane l is row l; lanes that are no row are zero or not written.
template <class D, class T>
class RealRows {
 public:
  RealRows(D d, const RealPlan<T>& plan, int64_t rows, T* x)
      : d_(d), plan_(plan), rows_(rows), x_(d, plan.complex, x) {
    if (rows < LanesOf(d)) std::fill(x_.At(0), x_.At(plan.complex.n), T{0});
  }

  void Forward(const T* signals, std::complex<T>* spectra) const {
    const int64_t n = plan_.n, lanes = LanesOf(d_), frequencies = n / 2 + 1;
    ForTiles(plan_.complex.n, [&](int64_t l, int64_t begin, int64_t end) {
      const T* row = signals + l * n;
      for (int64_t j = begin; j < end; ++j) {
        T* const at = x_.At(j) + l;
        at[0] = plan_.half ? row[2 * j] : row[j];
        at[lanes] = plan_.half ? row[2 * j + 1] : T{0};
      }
    });
    x_.template Transform<false>();
    const int64_t m = plan_.complex.n;
    ForTiles(frequencies, [&](int64_t l, int64_t begin, int64_t end) {
      std::complex<T>* row = spectra + l * frequencies;
      for (int64_t k = begin; k < end; ++k) {
        const T* const at = x_.Frequency(k % m) + l;
        if (!plan_.half) {
          row[k] = {at[0], k > 0 ? at[lanes] : T{0}};
          continue;
        }
        // Z = E + i O, of the even and the odd elements; X_k = E_k + w^k O_k.
        const T* const other = x_.Frequency((m - k) % m) + l;
        const T e_re = at[0] + other[0], e_im = at[lanes] - other[lanes];
        const T o_re = at[lanes] + other[lanes], o_im = other[0] - at[0];
        const std::complex<T> w = plan_.roots[k];
        row[k] = {T{0.5} * (e_re + (w.real() * o_re - w.imag() * o_im)),
                  T{0.5} * (e_im + (w.real() * o_im + w.imag() * o_re))};
      }
    });
  }

  void Inverse(const std::complex<T>* spectra, T* signals) const {
    const int64_t n = plan_.n, lanes = LanesOf(d_), frequencies = n / 2 + 1;
    const int64_t m = plan_.complex.n;
    ForTiles(plan_.half ? m : frequencies, [&](int64_t l, int64_t begin, int64_t end) {
      const std::complex<T>* row = spectra + l * frequencies;
      for (int64_t k = begin; k < end; ++k) {
        T* const at = x_.Frequency(k) + l;
        const T re = row[k].real(), im = k > 0 ? row[k].imag() : T{0};
        if (!plan_.half) {
          at[0] = re;
          at[lanes] = im;
          if (k == 0) continue;
          T* const mirrored = x_.Frequency(m - k) + l;
          mirrored[0] = re;
          mirrored[lanes] = -im;
          continue;
        }
        const T other_re = row[m - k].real(), other_im = k > 0 ? -row[m - k].imag() : T{0};
        const T o_re = re - other_re, o_im = im - other_im;
        const std::complex<T> w = plan_.roots[k];  // conj(w^k) (X_k - X_(k+m)) = O_k
        at[0] = (re + other_re) - (w.real() * o_im - w.imag() * o_re);
        at[lanes] = (im + other_im) + (w.real() * o_re + w.imag() * o_im);
      }
    });
    x_.template Transform<true>();
    const T scale = T{1} / static_cast<T>(n);
    ForTiles(m, [&](int64_t l, int64_t begin, int64_t end) {
      T* row = signals + l * n;
      for (int64_t j = begin; j < end; ++j) {
        const T* const at = x_.At(j) + l;
        row[plan_.half ? 2 * j : j] = scale * at[0];
        if (plan_.half) row[2 * j + 1] = scale * at[lanes];
      }
    });
  }

 private:
  // f(lane, begin, end) for all rows and for tiles of [0, n).
  template <class F>
  void ForTiles(int64_t n, F f) const {
    for (int64_t begin = 0; begin < n; begin += kTile) {
      for (int64_t l = 0; l < rows_; ++l) f(l, begin, std::min(n, begin + kTile));
    }
  }

  const D d_;
  const RealPlan<T>& plan_;
  const int64_t rows_;
  const Lanes<D, T> x_;
};

template <bool kInverse, class T, class From, class To>
void Run(const RealPlan<T>& plan, const From* from, To* to, int64_t rows, T* scratch) {
  const hn::ScalableTag<T> d;
  const int64_t frequencies = plan.n / 2 + 1;
  for (int64_t row = 0; row < rows; row += LanesOf(d)) {
    const RealRows<decltype(d), T> some(d, plan, std::min(LanesOf(d), rows - row), scratch);
    if constexpr (kInverse) {
      some.Inverse(from + row * frequencies, to + row * plan.n);
    } else {
      some.Forward(from + row * plan.n, to + row * frequencies);
    }
  }
}

void ForwardF32(const RealPlan<float>& plan, const float* signals, std::complex<float>* spectra,
                int64_t rows, float* scratch) {
  Run<false>(plan, signals, spectra, rows, scratch);
}
void ForwardF64(const RealPlan<double>& plan, const double* signals, std::complex<double>* spectra,
                int64_t rows, double* scratch) {
  Run<false>(plan, signals, spectra, rows, scratch);
}
void InverseF32(const RealPlan<float>& plan, const std::complex<float>* spectra, float* signals,
                int64_t rows, float* scratch) {
  Run<true>(plan, spectra, signals, rows, scratch);
}
void InverseF64(const RealPlan<double>& plan, const std::complex<double>* spectra, double* signals,
                int64_t rows, double* scratch) {
  Run<true>(plan, spectra, signals, rows, scratch);
}

}  // namespace HWY_NAMESPACE
}  // namespace fft_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace fft_internal {

HWY_EXPORT(ForwardF32);
HWY_EXPORT(ForwardF64);
HWY_EXPORT(InverseF32);
HWY_EXPORT(InverseF64);

void RealForward(const RealPlan<float>& plan, const float* signals, std::complex<float>* spectra,
                 int64_t rows, float* scratch) {
  HWY_DYNAMIC_DISPATCH(ForwardF32)(plan, signals, spectra, rows, scratch);
}
void RealForward(const RealPlan<double>& plan, const double* signals, std::complex<double>* spectra,
                 int64_t rows, double* scratch) {
  HWY_DYNAMIC_DISPATCH(ForwardF64)(plan, signals, spectra, rows, scratch);
}
void RealInverse(const RealPlan<float>& plan, const std::complex<float>* spectra, float* signals,
                 int64_t rows, float* scratch) {
  HWY_DYNAMIC_DISPATCH(InverseF32)(plan, spectra, signals, rows, scratch);
}
void RealInverse(const RealPlan<double>& plan, const std::complex<double>* spectra, double* signals,
                 int64_t rows, double* scratch) {
  HWY_DYNAMIC_DISPATCH(InverseF64)(plan, spectra, signals, rows, scratch);
}

}  // namespace fft_internal
}  // namespace residual
#endif  // HWY_ONCE
