#include <algorithm>
#include <cmath>
#include <complex>
#include <vector>

#include "ops/fft/real_fft.h"
#include "ops/ssm_kernel/cauchy_kernels.h"
#include "ops/ssm_kernel/channel_params.h"
#include "ops/ssm_kernel/dplr_discrete.h"
#include "ops/ssm_kernel/ssm_kernel.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"

namespace residual {
namespace {

using ssm_internal::Back;
using ssm_internal::CauchyGradients;
using ssm_internal::CauchyModes;
using ssm_internal::Complex;
using ssm_internal::ComplexList;
using ssm_internal::DplrChannel;
using ssm_internal::DplrGradients;
using ssm_internal::kNodes;
using ssm_internal::Nodes;

constexpr char kName[] = "dplr_ssm_kernel";
constexpr double kPi = 3.14159265358979323846;

struct Operands : ssm_internal::DplrOperands {
  Operands(const Tensor& Lambda, const Tensor& P, const Tensor& Q, const Tensor& B, const Tensor& C,
           const Tensor& dt, int64_t l, const DplrKernelOptions& o)
      : DplrOperands(kName, Lambda, P, Q, B, C, dt, o.conjugate_pairs), length(l), options(o) {
    RESIDUAL_CHECK_GE(length, 0) << kName;
  }

  // C (I - A_bar^L) of a channel.
  ComplexList Truncated(const DplrChannel& channel) const {
    ComplexList c = channel.C;
    if (options.truncated_c) return c;
    const ComplexList rest = RowTimesPower(Discretize(channel), c, length);
    for (int64_t n = 0; n < modes; ++n) c[n] -= rest[n];
    return c;
  }

  int64_t length;
  DplrKernelOptions options;
};

// sin and cos of pi j / L for j <= L / 2, in whole blocks; where there are no more, the last one is
// repeated.
template <class T>
struct NodeTable {
  explicit NodeTable(int64_t length)
      : count(length / 2 + 1), blocks((count + kNodes - 1) / kNodes), numbers(4 * blocks * kNodes) {
    for (int64_t i = 0; i < blocks * kNodes; ++i) {
      const int64_t j = std::min(i, count - 1);
      // By the smaller of the angle and its complement: cos is zero where it should be.
      const bool small = 4 * j <= length;
      const double angle = kPi / length * (small ? j : (length - 2 * j) / 2.0);
      const double s = small ? std::sin(angle) : std::cos(angle);
      const double c = small ? std::cos(angle) : std::sin(angle);
      T* const to = numbers.data() + i / kNodes * 4 * kNodes + i % kNodes;
      to[0] = static_cast<T>(s);
      to[kNodes] = static_cast<T>(s - to[0]);
      to[2 * kNodes] = static_cast<T>(c);
      to[3 * kNodes] = static_cast<T>(c - to[2 * kNodes]);
    }
  }
  Nodes<T> Block(int64_t b) const {
    const T* from = numbers.data() + b * 4 * kNodes;
    return {from, from + kNodes, from + 2 * kNodes, from + 3 * kNodes};
  }
  int64_t count, blocks;
  std::vector<T> numbers;
};

// The same nodes at the angles' negatives.
template <class T>
struct NegativeNodes {
  explicit NegativeNodes(const Nodes<T>& x) : c(x.c), c_low(x.c_low) {
    for (int64_t j = 0; j < kNodes; ++j) {
      s[j] = -x.s[j];
      s_low[j] = -x.s_low[j];
    }
  }
  Nodes<T> nodes() const { return {s, s_low, c, c_low}; }
  T s[kNodes], s_low[kNodes];
  const T *c, *c_low;
};

// One channel: the transform of its kernel, and the way back.
template <class T>
class Spectrum {
 public:
  explicit Spectrum(const Operands& x)
      : modes_(x.modes),
        side_(x.rank + 1),
        sums_(side_ * side_),
        pairs_(x.options.conjugate_pairs),
        re_(modes_),
        im_(modes_),
        im_low_(modes_),
        a_(sums_ * modes_),
        b_(sums_ * modes_),
        resolvents_(2 * modes_ * kNodes),
        blocks_(4 * sums_ * kNodes),
        grads_(blocks_.size()) {}

  void SetChannel(const DplrChannel& x, const ComplexList& truncated_c) {
    channel_ = &x;
    left_ = truncated_c;  // then Q*
    for (const Complex q : x.Q) left_.push_back(std::conj(q));
    right_ = x.B;  // then P
    right_.insert(right_.end(), x.P.begin(), x.P.end());
    for (int64_t n = 0; n < modes_; ++n) {
      const Complex lambda = Scaled(n);
      re_[n] = static_cast<T>(lambda.real());
      im_[n] = static_cast<T>(lambda.imag());
      im_low_[n] = static_cast<T>(lambda.imag() - im_[n]);
      for (int64_t m = 0; m < sums_; ++m) {
        const Complex v = Product(m, n);
        const double a = pairs_ ? v.real() * lambda.real() + v.imag() * lambda.imag() : v.real();
        a_[m * modes_ + n] = static_cast<T>(a);
        b_[m * modes_ + n] = static_cast<T>(pairs_ ? v.real() : v.imag());
      }
    }
  }

  // K^ at the nodes of a block; `to` takes as many as `count` says.
  void Evaluate(const Nodes<T>& nodes, int64_t count, std::complex<T>* to) {
    Values(nodes, to, count);
    if (pairs_) return;
    // The transform of the real part is the mean of this one and of the one of the conjugate.
    const NegativeNodes<T> negative(nodes);
    std::complex<T> other[kNodes];
    Values(negative.nodes(), other, count);
    for (int64_t j = 0; j < count; ++j) to[j] = (to[j] + std::conj(other[j])) / T{2};
  }

  // Adds what a block's gradients g of K^ give; sums are kept until Finish.
  void AddGradients(const Nodes<T>& nodes, int64_t count, const std::complex<T>* g) {
    if (pairs_) return AddBlock(nodes, count, g);
    const NegativeNodes<T> negative(nodes);
    std::complex<T> half[kNodes];
    for (int64_t j = 0; j < count; ++j) half[j] = g[j] / T{2};
    AddBlock(nodes, count, half);
    for (int64_t j = 0; j < count; ++j) half[j] = std::conj(half[j]);
    AddBlock(negative.nodes(), count, half);
  }

  void StartGradients() {
    da_.assign(sums_ * modes_, 0);
    db_.assign(sums_ * modes_, 0);
    first_.assign(modes_, 0);
    second_.assign(modes_, 0);
  }

  // From those sums to the gradients of the operands; that of C is the one of C (I - A_bar^L).
  void Finish(DplrGradients& to) const {
    const double half = channel_->dt / 2;
    for (int64_t n = 0; n < modes_; ++n) {
      const Complex lambda = Scaled(n);
      Complex g_lambda =
          pairs_ ? 2.0 * lambda * first_[n] - second_[n] : -Complex(first_[n], second_[n]);
      for (int64_t m = 0; m < sums_; ++m) {
        const double da = da_[m * modes_ + n], db = db_[m * modes_ + n];
        if (pairs_) g_lambda += da * Product(m, n);
        const Complex g_v = pairs_ ? da * lambda + db : Complex(da, db);
        const int64_t i = m / side_, j = m % side_;
        const Complex left = left_[i * modes_ + n], right = right_[j * modes_ + n];
        const Complex g_left = Back(g_v, half * right), g_right = Back(g_v, half * left);
        to.dt += Back(g_v, left * right).real() / 2;
        if (i == 0) {
          to.C[n] += g_left;
        } else {
          to.Q[(i - 1) * modes_ + n] += std::conj(g_left);
        }
        (j == 0 ? to.B[n] : to.P[(j - 1) * modes_ + n]) += g_right;
      }
      to.Lambda[n] += half * g_lambda;
      to.dt += Back(g_lambda, channel_->Lambda[n]).real() / 2;
    }
  }

 private:
  Complex Scaled(int64_t n) const { return channel_->dt / 2 * channel_->Lambda[n]; }
  Complex Product(int64_t m, int64_t n) const {
    return channel_->dt / 2 * left_[m / side_ * modes_ + n] * right_[m % side_ * modes_ + n];
  }

  CauchyModes<T> Modes() const {
    return {modes_, sums_, pairs_, re_.data(), im_.data(), im_low_.data(), a_.data(), b_.data()};
  }

  // The m-th sum at a node.
  std::complex<T> Sum(const Nodes<T>& nodes, int64_t m, int64_t j) const {
    const T alpha = pairs_ ? -2 * nodes.c[j] : 1, beta = pairs_ ? 2 * nodes.s[j] : 1;
    const T* at = blocks_.data() + 4 * m * kNodes + j;
    return {alpha * at[0] - beta * at[3 * kNodes], alpha * at[kNodes] + beta * at[2 * kNodes]};
  }
  void SetGradient(const Nodes<T>& nodes, int64_t m, int64_t j, std::complex<T> g) {
    const T alpha = pairs_ ? -2 * nodes.c[j] : 1, beta = pairs_ ? 2 * nodes.s[j] : 1;
    T* at = grads_.data() + 4 * m * kNodes + j;
    at[0] = alpha * g.real();
    at[kNodes] = alpha * g.imag();
    at[2 * kNodes] = beta * g.imag();
    at[3 * kNodes] = -beta * g.real();
  }

  // With S = I + c f(Q* P): y = S^-1 f(Q* B) and w = f(C P) S^-1 at a node.
  void Solve(const Nodes<T>& nodes, int64_t j, bool with_w) {
    const int64_t r = side_ - 1;
    const double c = nodes.c[j];
    ComplexList S(r * r), transposed(r * r);
    y_.resize(r);
    w_.resize(r);
    for (int64_t i = 0; i < r; ++i) {
      y_[i] = Complex(Sum(nodes, (i + 1) * side_, j));
      w_[i] = Complex(Sum(nodes, i + 1, j));
      for (int64_t k = 0; k < r; ++k) {
        S[i * r + k] = (i == k ? 1.0 : 0.0) + c * Complex(Sum(nodes, (i + 1) * side_ + k + 1, j));
        transposed[k * r + i] = S[i * r + k];
      }
    }
    ssm_internal::SolveSmall(r, S.data(), y_.data(), 1);
    if (with_w) ssm_internal::SolveSmall(r, transposed.data(), w_.data(), 1);
  }

  void Values(const Nodes<T>& nodes, std::complex<T>* to, int64_t count) {
    CauchySums(Modes(), nodes, resolvents_.data(), blocks_.data());
    for (int64_t j = 0; j < count; ++j) {
      std::complex<T> value = Sum(nodes, 0, j);
      if (side_ == 2) {
        value -= nodes.c[j] * Over(Times(Sum(nodes, 1, j), Sum(nodes, 2, j)),
                                   T{1} + nodes.c[j] * Sum(nodes, 3, j));
      } else if (side_ > 2) {
        Solve(nodes, j, false);
        Complex sum;
        for (int64_t i = 0; i + 1 < side_; ++i) sum += Complex(Sum(nodes, i + 1, j)) * y_[i];
        value -= std::complex<T>(static_cast<double>(nodes.c[j]) * sum);
      }
      to[j] = Times({nodes.c[j], nodes.s[j]}, value);
    }
  }

  void AddBlock(const Nodes<T>& nodes, int64_t count, const std::complex<T>* g) {
    CauchySums(Modes(), nodes, resolvents_.data(), blocks_.data());
    std::fill(grads_.begin(), grads_.end(), T{0});
    for (int64_t j = 0; j < count; ++j) {
      const std::complex<T> to_sum = Times({nodes.c[j], -nodes.s[j]}, g[j]);
      const T c = nodes.c[j];
      SetGradient(nodes, 0, j, to_sum);
      if (side_ == 2) {
        const std::complex<T> S = T{1} + c * Sum(nodes, 3, j);
        const std::complex<T> y = std::conj(Over(Sum(nodes, 2, j), S));
        const std::complex<T> w = std::conj(Over(Sum(nodes, 1, j), S));
        const std::complex<T> scaled = -c * to_sum;
        SetGradient(nodes, 1, j, Times(scaled, y));
        SetGradient(nodes, 2, j, Times(scaled, w));
        SetGradient(nodes, 3, j, Times(-c * scaled, Times(w, y)));
      } else if (side_ > 2) {
        Solve(nodes, j, true);
        const Complex scaled = -static_cast<double>(c) * Complex(to_sum);
        for (int64_t i = 0; i + 1 < side_; ++i) {
          SetGradient(nodes, i + 1, j, std::complex<T>(Back(scaled, y_[i])));
          SetGradient(nodes, (i + 1) * side_, j, std::complex<T>(Back(scaled, w_[i])));
          for (int64_t k = 0; k + 1 < side_; ++k) {
            SetGradient(nodes, (i + 1) * side_ + k + 1, j,
                        std::complex<T>(-static_cast<double>(c) * Back(scaled, w_[i] * y_[k])));
          }
        }
      }
    }
    AddCauchyGradients(Modes(), nodes, resolvents_.data(), grads_.data(),
                       CauchyGradients<T>{da_.data(), db_.data(), first_.data(), second_.data()});
  }

  static std::complex<T> Times(std::complex<T> a, std::complex<T> b) {
    return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
  }
  static std::complex<T> Over(std::complex<T> a, std::complex<T> b) {
    const T scale = 1 / (b.real() * b.real() + b.imag() * b.imag());
    return Times(a, {b.real() * scale, -b.imag() * scale});
  }

  const int64_t modes_, side_, sums_;
  const bool pairs_;
  const DplrChannel* channel_ = nullptr;
  ComplexList left_, right_;  // [side, modes]: the sums are of their products
  std::vector<T> re_, im_, im_low_, a_, b_, resolvents_, blocks_, grads_;
  std::vector<double> da_, db_, first_, second_;
  ComplexList y_, w_;
};

template <class T>
Tensor Forward(const Operands& x) {
  Tensor K = Tensor::Uninitialized({x.channels, x.length}, x.dt.dtype());
  if (x.length == 0) return K;
  const NodeTable<T> table(x.length);
  Tensor spectra = Tensor::Uninitialized({x.channels, table.count, 2}, x.dt.dtype());
  auto* const to = reinterpret_cast<std::complex<T>*>(spectra.mutable_data<T>());
  ParallelFor(x.channels, 1, [&](int64_t begin, int64_t end) {
    Spectrum<T> spectrum(x);
    for (int64_t h = begin; h < end; ++h) {
      const DplrChannel channel = x.Channel(h);
      spectrum.SetChannel(channel, x.Truncated(channel));
      for (int64_t b = 0; b < table.blocks; ++b) {
        spectrum.Evaluate(table.Block(b), std::min(kNodes, table.count - b * kNodes),
                          to + h * table.count + b * kNodes);
      }
    }
  });
  InverseRealFft(to, K.mutable_data<T>(), x.channels, x.length);
  return K;
}

template <class T>
TensorList Backward(const Operands& x, const Tensor& dK) {
  ComplexList dLambda(x.channels * x.modes), dB(dLambda), dC(dLambda);
  ComplexList dP(x.channels * x.rank * x.modes), dQ(dP);
  std::vector<double> ddt(x.channels);
  const NodeTable<T> table(std::max<int64_t>(1, x.length));
  Tensor spectra = Tensor::Uninitialized({x.channels, table.count, 2}, x.dt.dtype());
  auto* const g = reinterpret_cast<std::complex<T>*>(spectra.mutable_data<T>());
  if (x.length > 0) RealFft(dK.data<T>(), g, x.channels, x.length);
  ParallelFor(x.length == 0 ? 0 : x.channels, 1, [&](int64_t begin, int64_t end) {
    Spectrum<T> spectrum(x);
    for (int64_t h = begin; h < end; ++h) {
      const DplrChannel channel = x.Channel(h);
      spectrum.SetChannel(channel, x.Truncated(channel));
      spectrum.StartGradients();
      // K = irfft: the frequencies between the ends count for two.
      std::complex<T>* const row = g + h * table.count;
      for (int64_t j = 0; j < table.count; ++j) {
        const bool end_of_band = j == 0 || 2 * j == x.length;
        row[j] *= static_cast<T>((end_of_band ? 1.0 : 2.0) / static_cast<double>(x.length));
      }
      for (int64_t b = 0; b < table.blocks; ++b) {
        spectrum.AddGradients(table.Block(b), std::min(kNodes, table.count - b * kNodes),
                              row + b * kNodes);
      }
      DplrGradients to(channel);
      spectrum.Finish(to);
      if (!x.options.truncated_c) {
        ComplexList back = to.C;
        for (Complex& c : back) c = -c;
        BackThroughPower(channel, back, x.length, to);
      }
      std::copy(to.Lambda.begin(), to.Lambda.end(), dLambda.begin() + h * x.modes);
      std::copy(to.P.begin(), to.P.end(), dP.begin() + h * x.rank * x.modes);
      std::copy(to.Q.begin(), to.Q.end(), dQ.begin() + h * x.rank * x.modes);
      std::copy(to.B.begin(), to.B.end(), dB.begin() + h * x.modes);
      std::copy(to.C.begin(), to.C.end(), dC.begin() + h * x.modes);
      ddt[h] = to.dt;
    }
  });
  return {x.Lambda.Gradient(dLambda, x.channels),
          x.P.Gradient(dP, x.channels),
          x.Q.Gradient(dQ, x.channels),
          x.B.Gradient(dB, x.channels),
          x.C.Gradient(dC, x.channels),
          ConvertTo(Tensor::Of<double>(x.dt.shape(), ddt), x.dt.dtype())};
}

}  // namespace

Tensor DplrSsmKernel(const Tensor& Lambda, const Tensor& P, const Tensor& Q, const Tensor& B,
                     const Tensor& C, const Tensor& dt, int64_t length,
                     const DplrKernelOptions& options) {
  const Operands x(Lambda, P, Q, B, C, dt, length, options);
  Tensor K = dt.dtype() == kF64 ? Forward<double>(x) : Forward<float>(x);
  if (Tape* tape = Tape::For({&Lambda, &P, &Q, &B, &C, &dt})) {
    tape->Record(kName, {&Lambda, &P, &Q, &B, &C, &dt}, {&K}, [x](auto dK, Needs) {
      return dK[0].dtype() == kF64 ? Backward<double>(x, dK[0]) : Backward<float>(x, dK[0]);
    });
  }
  return K;
}

Tensor TruncatedOutput(const Tensor& Lambda, const Tensor& P, const Tensor& Q, const Tensor& C,
                       const Tensor& dt, int64_t length, bool conjugate_pairs) {
  DplrKernelOptions options;
  options.conjugate_pairs = conjugate_pairs;
  const Operands x(Lambda, P, Q, C, C, dt, length, options);
  ComplexList truncated(x.channels * x.modes);
  ParallelFor(x.channels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t h = begin; h < end; ++h) {
      const ComplexList c = x.Truncated(x.Channel(h));
      std::copy(c.begin(), c.end(), truncated.begin() + h * x.modes);
    }
  });
  const auto* numbers = reinterpret_cast<const double*>(truncated.data());
  return ConvertTo(Tensor::Of<double>({x.channels, x.modes, 2},
                                      absl::MakeConstSpan(numbers, 2 * truncated.size())),
                   dt.dtype());
}

}  // namespace residual
