#include <algorithm>
#include <cmath>
#include <complex>
#include <vector>

#include "ops/ssm_kernel/channel_params.h"
#include "ops/ssm_kernel/diagonal_kernels.h"
#include "ops/ssm_kernel/diagonal_mode.h"
#include "ops/ssm_kernel/ssm_kernel.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"

namespace residual {
namespace {

using ssm_internal::ChannelParam;
using ssm_internal::Complex;
using ssm_internal::kPad;
using ssm_internal::Mode;
using ssm_internal::ModeGradients;
using ssm_internal::ModeParams;
using ssm_internal::ModeSums;
using ssm_internal::Powers;
using ssm_internal::SmallProduct;

constexpr char kName[] = "diagonal_ssm_kernel";
struct Operands {
  Operands(const Tensor& A, const Tensor& B, const Tensor& C, const Tensor& dt, int64_t l,
           const DiagonalKernelOptions& o)
      : steps(ssm_internal::ReadSteps(kName, dt)),
        channels(static_cast<int64_t>(steps.size())),
        length(l),
        options(o),
        A(kName, A, 3, channels, dt.dtype()),
        B(kName, B, 3, channels, dt.dtype()),
        C(kName, C, 3, channels, dt.dtype()),
        dt(dt) {
    RESIDUAL_CHECK_GE(length, 0) << kName;
    RESIDUAL_CHECK_OP(kName, this->A.size() == this->B.size() && this->A.size() == this->C.size(),
                      A, B, C);
    modes = this->A.size();
    padded = (modes + kPad - 1) / kPad * kPad;
    // About sqrt L rows and columns.
    const double root = std::sqrt(static_cast<double>(length));
    width = std::max<int64_t>(1, std::llround(std::ceil(root / kPad))) * kPad;
    rows = (length + width - 1) / width;
    factor = options.conjugate_pairs ? 2 : 1;
  }

  std::vector<ModeParams> Modes(int64_t channel) const {
    std::vector<Complex> a(modes), b(modes), c(modes);
    A.Read(channel, a.data());
    B.Read(channel, b.data());
    C.Read(channel, c.data());
    std::vector<ModeParams> params(modes);
    for (int64_t n = 0; n < modes; ++n) params[n] = {a[n], b[n], c[n], steps[channel], length};
    return params;
  }

  std::vector<double> steps;
  int64_t channels, length;
  DiagonalKernelOptions options;
  ChannelParam A, B, C;
  Tensor dt;
  int64_t modes, padded, width, rows;
  double factor;
};

// Numbers for each mode, re then im, padded with zeros.
struct PerMode {
  explicit PerMode(int64_t padded) : re(padded), im(padded) {}
  void Set(int64_t n, Complex x) {
    re[n] = x.real();
    im[n] = x.imag();
  }
  Complex Get(int64_t n) const { return {re[n], im[n]}; }
  std::vector<double> re, im;
};

// What a channel needs besides its parameters.
template <class T>
struct Scratch {
  explicit Scratch(const Operands& x)
      : z(x.padded), jump(x.padded), one(x.padded), start(x.padded) {
    std::fill(one.re.begin(), one.re.end(), 1);
  }
  PerMode z, jump, one, start;
  std::vector<Mode> mode;
};

// Sets the modes of a channel, the powers z and jump = z^width.
template <class T>
void Prepare(const Operands& x, const std::vector<ModeParams>& params, Scratch<T>& s) {
  s.mode.clear();
  for (int64_t n = 0; n < x.modes; ++n) {
    s.mode.push_back(ModeOf(params[n], x.options.discretization));
    const Mode& mode = s.mode.back();
    s.z.Set(n, mode.z);
    // In the exponent where there is one: a product of many is further off.
    const Complex exponent = params[n].dt * params[n].A * static_cast<double>(x.width);
    s.jump.Set(n, x.options.discretization == Discretization::kBilinear
                      ? std::pow(mode.z, static_cast<int>(x.width))
                      : std::exp(exponent));
  }
}

// Rows of start z^(width a - shift), [rows, 2 padded], to `to`.
template <class T, class Start>
void RowPowers(const Operands& x, const std::vector<ModeParams>& params, Scratch<T>& s,
               Start start_of, double sign_im, T* to) {
  for (int64_t n = 0; n < x.modes; ++n) s.start.Set(n, start_of(n));
  ModePowers(Powers<T>{x.padded, x.rows, 2 * x.padded, s.jump.re.data(), s.jump.im.data(),
                       s.start.re.data(), s.start.im.data(), to, to + x.padded});
  for (int64_t n = 0; n < x.modes; ++n) {
    if (s.mode[n].shift == 0) continue;
    // Grows: from the end, where it is 1, it never overflows.
    for (int64_t a = 0; a < x.rows; ++a) {
      const double power = static_cast<double>(a * x.width) - s.mode[n].shift;
      const Complex value = start_of(n) * std::exp(params[n].dt * params[n].A * power);
      to[a * 2 * x.padded + n] = static_cast<T>(value.real());
      to[a * 2 * x.padded + x.padded + n] = static_cast<T>(value.imag());
    }
  }
  if (sign_im > 0) return;
  for (int64_t a = 0; a < x.rows; ++a) {
    T* im = to + (2 * a + 1) * x.padded;
    for (int64_t n = 0; n < x.padded; ++n) im[n] = -im[n];
  }
}

template <class T>
Tensor Forward(const Operands& x) {
  Tensor K = Tensor::Uninitialized({x.channels, x.length}, x.dt.dtype());
  T* const to = K.mutable_data<T>();
  ParallelFor(x.length == 0 ? 0 : x.channels, 1, [&](int64_t begin, int64_t end) {
    Scratch<T> s(x);
    const int64_t inner = 2 * x.padded;
    std::vector<T> left(x.rows * inner), powers(x.width * inner), right(inner * x.width);
    std::vector<T> product(x.rows * x.width);
    for (int64_t h = begin; h < end; ++h) {
      const std::vector<ModeParams> params = x.Modes(h);
      Prepare(x, params, s);
      RowPowers<T>(
          x, params, s, [&](int64_t n) { return x.factor * s.mode[n].w; }, -1, left.data());
      ModePowers(Powers<T>{x.padded, x.width, inner, s.z.re.data(), s.z.im.data(), s.one.re.data(),
                           s.one.im.data(), powers.data(), powers.data() + x.padded});
      for (int64_t b = 0; b < x.width; ++b) {
        for (int64_t k = 0; k < inner; ++k) right[k * x.width + b] = powers[b * inner + k];
      }
      Multiply(SmallProduct<T>{x.rows, inner, x.width, left.data(), right.data(), product.data()});
      std::copy_n(product.data(), x.length, to + h * x.length);
    }
  });
  return K;
}

// With S0 = sum_l dK_l z^(l - shift) and S1 = sum_l (l - shift) dK_l z^(l - shift): the gradients
// of w and log z are conj(S0) and conj(w S1).
template <class T>
TensorList Backward(const Operands& x, const Tensor& dK) {
  std::vector<Complex> dA(x.channels * x.modes), dB(dA), dC(dA);
  std::vector<double> ddt(x.channels);
  ParallelFor(x.channels, 1, [&](int64_t begin, int64_t end) {
    Scratch<T> s(x);
    const int64_t columns = 4 * x.padded;
    std::vector<double> e(x.rows * 2 * x.padded);
    std::vector<T> g(x.rows * x.width), powers(x.width * columns), t(x.rows * columns);
    PerMode s0(x.padded), s1(x.padded);
    Scratch<double> in_double(x);
    for (int64_t h = begin; h < end; ++h) {
      const std::vector<ModeParams> params = x.Modes(h);
      const T* const from = dK.data<T>() + h * x.length;
      Prepare(x, params, in_double);
      std::copy_n(from, x.length, g.data());
      ModePowers(Powers<T>{x.padded, x.width, columns, in_double.z.re.data(), in_double.z.im.data(),
                           s.one.re.data(), s.one.im.data(), powers.data(),
                           powers.data() + x.padded});
      for (int64_t b = 0; b < x.width; ++b) {
        T* row = powers.data() + b * columns;
        for (int64_t k = 0; k < 2 * x.padded; ++k) {
          row[2 * x.padded + k] = static_cast<T>(b) * row[k];
        }
      }
      Multiply(SmallProduct<T>{x.rows, x.width, columns, g.data(), powers.data(), t.data()});
      RowPowers<double>(
          x, params, in_double, [](int64_t) { return Complex(1); }, 1, e.data());
      SumModes(ModeSums<T>{x.rows, x.padded, x.width, e.data(), t.data(), s0.re.data(),
                           s0.im.data(), s1.re.data(), s1.im.data()});
      for (int64_t n = 0; n < x.modes; ++n) {
        const Mode& mode = in_double.mode[n];
        const Complex S1 = s1.Get(n) - mode.shift * s0.Get(n);
        const double first = x.length > 1 ? x.factor * from[1] : 0;
        const ModeGradients got =
            BackThroughMode(params[n], x.options.discretization, x.factor * std::conj(s0.Get(n)),
                            x.factor * std::conj(mode.w * S1), first * std::conj(mode.w));
        dA[h * x.modes + n] = got.A;
        dB[h * x.modes + n] = got.B;
        dC[h * x.modes + n] = got.C;
        ddt[h] += got.dt;
      }
    }
  });
  const Tensor steps = Tensor::Of<double>(x.dt.shape(), ddt);
  return {x.A.Gradient(dA, x.channels), x.B.Gradient(dB, x.channels), x.C.Gradient(dC, x.channels),
          ConvertTo(steps, x.dt.dtype())};
}

}  // namespace

Tensor DiagonalSsmKernel(const Tensor& A, const Tensor& B, const Tensor& C, const Tensor& dt,
                         int64_t length, const DiagonalKernelOptions& options) {
  const Operands x(A, B, C, dt, length, options);
  Tensor K = dt.dtype() == kF64 ? Forward<double>(x) : Forward<float>(x);
  if (Tape* tape = Tape::For({&A, &B, &C, &dt})) {
    tape->Record(kName, {&A, &B, &C, &dt}, {&K}, [x](auto dK, Needs) {
      return dK[0].dtype() == kF64 ? Backward<double>(x, dK[0]) : Backward<float>(x, dK[0]);
    });
  }
  return K;
}

}  // namespace residual
