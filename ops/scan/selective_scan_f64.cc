#include "ops/scan/selective_scan_f64.h"

#include <algorithm>
#include <cmath>

namespace residual {
namespace scan_internal {
namespace {

const double* DataOrNull(const Tensor& x) { return x.defined() ? x.data<double>() : nullptr; }
double* MutableOrNull(Tensor& x) { return x.defined() ? x.mutable_data<double>() : nullptr; }

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double Softplus(double x) { return x > 20 ? x : std::log1p(std::exp(x)); }

// One channel of one row: where it reads, and its numbers at a position.
class Channel {
 public:
  Channel(const SelectiveScanInputs& in, const std::vector<unsigned char>& restart, int64_t row,
          int64_t c)
      : in_(in),
        restart_(restart),
        length_(in.u.dim(1)),
        dim_(in.u.dim(2)),
        state_(in.A.dim(1)),
        row_(row),
        c_(c) {}

  int64_t At(int64_t t) const { return (row_ * length_ + t) * dim_ + c_; }
  int64_t StateAt(int64_t n) const { return (row_ * dim_ + c_) * state_ + n; }
  // Of B or C.
  int64_t CoefficientAt(const Tensor& x, int64_t t, int64_t n) const {
    if (x.rank() == 2) return c_ * state_ + n;
    const int64_t groups = x.rank() == 4 ? x.dim(2) : 1;
    return ((row_ * length_ + t) * groups + c_ / (dim_ / groups)) * state_ + n;
  }
  bool Restarts(int64_t t) const { return !restart_.empty() && restart_[row_ * length_ + t]; }
  double RawDelta(int64_t t) const {
    const double* bias = DataOrNull(in_.delta_bias);
    return in_.delta.data<double>()[At(t)] + (bias ? bias[c_] : 0);
  }
  double Delta(int64_t t) const { return in_.softplus ? Softplus(RawDelta(t)) : RawDelta(t); }
  double A(int64_t n) const { return in_.A.data<double>()[c_ * state_ + n]; }
  double B(int64_t t, int64_t n) const { return in_.B.data<double>()[CoefficientAt(in_.B, t, n)]; }
  double C(int64_t t, int64_t n) const { return in_.C.data<double>()[CoefficientAt(in_.C, t, n)]; }
  double D() const { return in_.D.defined() ? in_.D.data<double>()[c_] : 0; }
  double U(int64_t t) const { return in_.u.data<double>()[At(t)]; }
  double Initial(int64_t n) const {
    return in_.initial_state.defined() ? in_.initial_state.data<double>()[StateAt(n)] : 0;
  }
  // y before the gate, from the state after position t.
  double Read(int64_t t, const double* h) const {
    double y = D() * U(t);
    for (int64_t n = 0; n < state_; ++n) y += C(t, n) * h[n];
    return y;
  }
  // The state before position t to the one after.
  void Advance(int64_t t, const double* before, double* after) const {
    const double delta = Delta(t);
    for (int64_t n = 0; n < state_; ++n) {
      after[n] = std::exp(delta * A(n)) * (Restarts(t) ? 0 : before[n]) + delta * B(t, n) * U(t);
    }
  }

 private:
  const SelectiveScanInputs& in_;
  const std::vector<unsigned char>& restart_;
  const int64_t length_, dim_, state_, row_, c_;
};

}  // namespace

void ForwardF64(const SelectiveScanInputs& in, const std::vector<unsigned char>& restart,
                SelectiveScanResult& out) {
  const int64_t batch = in.u.dim(0), length = in.u.dim(1), dim = in.u.dim(2), state = in.A.dim(1);
  double* y = out.y.mutable_data<double>();
  double* last = out.last_state.mutable_data<double>();
  const double* z = DataOrNull(in.z);
  std::vector<double> h(state);
  for (int64_t row = 0; row < batch; ++row) {
    for (int64_t c = 0; c < dim; ++c) {
      const Channel channel(in, restart, row, c);
      for (int64_t n = 0; n < state; ++n) h[n] = channel.Initial(n);
      for (int64_t t = 0; t < length; ++t) {
        const int64_t at = channel.At(t);
        channel.Advance(t, h.data(), h.data());
        y[at] = channel.Read(t, h.data()) * (z ? z[at] * Sigmoid(z[at]) : 1);
      }
      for (int64_t n = 0; n < state; ++n) last[channel.StateAt(n)] = h[n];
    }
  }
}

TensorList BackwardF64(const SelectiveScanInputs& in, const std::vector<unsigned char>& restart,
                       const Tensor& dy, const Tensor& dlast) {
  const int64_t batch = in.u.dim(0), length = in.u.dim(1), dim = in.u.dim(2), state = in.A.dim(1);
  TensorList grads;
  for (const Tensor* x :
       {&in.u, &in.delta, &in.A, &in.B, &in.C, &in.D, &in.z, &in.delta_bias, &in.initial_state}) {
    grads.push_back(x->defined() ? Tensor::Zeros(x->shape(), kF64) : Tensor());
  }
  double *du = MutableOrNull(grads[0]), *ddelta = MutableOrNull(grads[1]),
         *dA = MutableOrNull(grads[2]), *dB = MutableOrNull(grads[3]),
         *dC = MutableOrNull(grads[4]), *dD = MutableOrNull(grads[5]),
         *dz = MutableOrNull(grads[6]), *dbias = MutableOrNull(grads[7]),
         *dinitial = MutableOrNull(grads[8]);
  const double *grad = DataOrNull(dy), *grad_last = DataOrNull(dlast), *z = DataOrNull(in.z);
  std::vector<double> states((length + 1) * state), carry(state);
  for (int64_t row = 0; row < batch; ++row) {
    for (int64_t c = 0; c < dim; ++c) {
      const Channel channel(in, restart, row, c);
      for (int64_t n = 0; n < state; ++n) {
        states[n] = channel.Initial(n);
        carry[n] = grad_last ? grad_last[channel.StateAt(n)] : 0;
      }
      for (int64_t t = 0; t < length; ++t) {
        channel.Advance(t, states.data() + t * state, states.data() + (t + 1) * state);
      }
      for (int64_t t = length - 1; t >= 0; --t) {
        const int64_t at = channel.At(t);
        const double *before = states.data() + t * state, *after = before + state;
        const double u = channel.U(t), delta = channel.Delta(t);
        double g_y = grad ? grad[at] : 0, for_delta = 0;
        if (z != nullptr) {
          const double s = Sigmoid(z[at]);
          dz[at] = g_y * channel.Read(t, after) * s * (1 + z[at] * (1 - s));
          g_y *= z[at] * s;
        }
        if (dD) dD[c] += g_y * u;
        du[at] += g_y * channel.D();
        for (int64_t n = 0; n < state; ++n) {
          const double b = channel.B(t, n), g = carry[n] + g_y * channel.C(t, n);
          const double kept = channel.Restarts(t) ? 0 : std::exp(delta * channel.A(n));
          dC[channel.CoefficientAt(in.C, t, n)] += g_y * after[n];
          dB[channel.CoefficientAt(in.B, t, n)] += g * delta * u;
          dA[c * state + n] += g * kept * before[n] * delta;
          for_delta += g * (kept * before[n] * channel.A(n) + b * u);
          du[at] += g * delta * b;
          carry[n] = g * kept;
        }
        ddelta[at] = for_delta * (in.softplus ? Sigmoid(channel.RawDelta(t)) : 1);
        if (dbias) dbias[c] += ddelta[at];
      }
      for (int64_t n = 0; dinitial && n < state; ++n) dinitial[channel.StateAt(n)] = carry[n];
    }
  }
  return grads;
}

}  // namespace scan_internal
}  // namespace residual
