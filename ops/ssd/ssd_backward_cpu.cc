#include "ops/ssd/ssd_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/ssd/ssd_backward_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/highway.h"
#include "ops/ssd/ssd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace ssd_internal {
namespace HWY_NAMESPACE {

// With G the gradient of the state after a chunk, H the state before it, X = delta x, M = scores .
// L:
//   dX = M^T dy + to_end B G                     one product, [M^T | B decayed to the end] [dy; G]
//   dM = dy X^T     dscores = dM . L
//   dC = from_start dy H^T    dB = to_end X G^T  by way of the states
//   dH = whole G + (from_start C)^T dy
// and the gradient of delta_k A is the sum of what crosses k:
//   dM . M of s < k <= t,   C . dC of t >= k,   B . dB of s < k,   whole G . H
template <class S, class T>
class Back {
 public:
  Back(const SsdArgs<S>& args, const SsdGradients<S>& g)
      : args_(args),
        g_(g),
        P_(args.head_dim),
        N_(args.state),
        most_(std::min(kChunk, args.length)),
        L_stride_((most_ + kPadding - 1) / kPadding * kPadding),
        memory_(TotalSize()) {
    k_ = memory_.TakeDecay();
    left_ = memory_.Take(most_ * (most_ + N_));
    L_ = memory_.Take(most_ * L_stride_);
    right_ = memory_.Take((most_ + N_) * P_);
    delta_x_ = memory_.Take(most_ * P_);
    for_delta_x_ = memory_.Take(most_ * P_);
    for_masked_ = memory_.Take(most_ * most_);
    for_C_ = memory_.Take(most_ * N_);
    for_B_ = memory_.Take(most_ * N_);
    read_ = memory_.Take(most_ * N_);
    added_ = memory_.Take(N_ * P_);
    crossing_ = memory_.Take(kChunk);
    rows_ = memory_.Take(kChunk);
    reads_ = memory_.Take(kChunk);
    writes_ = memory_.Take(kChunk);
    states_ = memory_.Take(args.chunks() * N_ * P_);
    G_ = right_ + most_ * P_;
  }

  void Run(int64_t row, int64_t head) {
    const Head<S, T> at(args_, row, head);
    Recompute(at, row, head);
    Transpose(g_.dlast != nullptr ? g_.dlast + at.state : nullptr, N_, P_, G_);
    double dA = 0;
    for (int64_t chunk = args_.chunks() - 1; chunk >= 0; --chunk) {
      const int64_t first = chunk * kChunk, q = std::min(kChunk, args_.length - first);
      Measure(args_, row, head, first, q, k_);
      Products(at, chunk, first, q);
      const S* H = states_ + chunk * N_ * P_;
      const S whole = k_.whole * Dot(G_, H, N_ * P_);
      Crossings(at, chunk, first, q);
      WriteInputs(at, head, first, q);
      dA += SumCrossings(at, head, first, q, whole);
      AddState(k_.whole, added_, G_, N_ * P_);
    }
    g_.dA[at.number] = static_cast<S>(dA);
    Transpose(G_, P_, N_, g_.dinitial + at.state);
  }

 private:
  int64_t TotalSize() const {
    using Memory = Parts<S>;
    const int64_t q = most_;
    return Memory::DecaySize() + Memory::Size(q * (q + N_)) + Memory::Size(q * L_stride_) +
           Memory::Size((q + N_) * P_) + 2 * Memory::Size(q * P_) + Memory::Size(q * q) +
           3 * Memory::Size(q * N_) + Memory::Size(N_ * P_) + 4 * Memory::Size(kChunk) +
           Memory::Size(args_.chunks() * N_ * P_);
  }
  const T* X(const Head<S, T>& at, int64_t first) const {
    return static_cast<const T*>(args_.x) + at.x + first * at.x_stride;
  }
  const S* Delta(const Head<S, T>& at, int64_t first) const {
    return args_.delta + at.number * args_.length + first;
  }
  int64_t OfGroup(const Head<S, T>& at, int64_t first) const {
    return (at.group * args_.length + first) * N_;
  }

  // The states before each chunk.
  void Recompute(const Head<S, T>& at, int64_t row, int64_t head) {
    S* state = states_;
    Transpose(args_.initial != nullptr ? args_.initial + at.state : nullptr, N_, P_, state);
    for (int64_t chunk = 0; chunk + 1 < args_.chunks(); ++chunk, state += N_ * P_) {
      const int64_t first = chunk * kChunk;
      Measure(args_, row, head, first, kChunk, k_);
      ScaleRows(X(at, first), at.x_stride, Delta(at, first), delta_x_, P_, kChunk, P_);
      ScaleRows(args_.B + OfGroup(at, first), N_, k_.to_end, for_B_, N_, kChunk, N_);
      Multiply(for_B_, true, delta_x_, false, added_, N_, P_, kChunk);
      std::copy_n(state, N_ * P_, state + N_ * P_);
      AddState(k_.whole, added_, state + N_ * P_, N_ * P_);
    }
  }

  // All products of a chunk.
  void Products(const Head<S, T>& at, int64_t chunk, int64_t first, int64_t q) {
    const S* H = states_ + chunk * N_ * P_;
    S* dy = G_ - q * P_;
    if (g_.dy != nullptr) {
      const T* from = static_cast<const T*>(g_.dy) + at.x + first * at.x_stride;
      std::fill_n(rows_, q, S{1});
      ScaleRows(from, at.x_stride, rows_, dy, P_, q, P_);
    } else {
      std::fill_n(dy, q * P_, S{0});
    }
    ScaleRows(X(at, first), at.x_stride, Delta(at, first), delta_x_, P_, q, P_);
    MaskTransposed(args_.scores + (at.group * args_.chunks() + chunk) * kChunk * kChunk, k_, q,
                   left_, q + N_, L_, L_stride_);
    ScaleRows(args_.B + OfGroup(at, first), N_, k_.to_end, left_ + q, q + N_, q, N_);
    Multiply(left_, false, dy, false, for_delta_x_, q, P_, q + N_);
    Multiply(delta_x_, false, dy, true, for_masked_, q, q, P_);
    Multiply(dy, false, H, true, for_C_, q, N_, P_);
    Multiply(delta_x_, false, G_, true, for_B_, q, N_, P_);
    ScaleRows(args_.C + OfGroup(at, first), N_, k_.from_start, read_, N_, q, N_);
    Multiply(read_, true, dy, false, added_, N_, P_, q);
  }

  // Adds to the task's gradients of the scores, C and B; leaves what crosses each position.
  void Crossings(const Head<S, T>& at, int64_t chunk, int64_t first, int64_t q) {
    const hn::ScalableTag<S> d;
    const S* scores = args_.scores + (at.group * args_.chunks() + chunk) * kChunk * kChunk;
    S* dscores = g_.dscores + chunk * kChunk * kChunk;
    const auto end = hn::Set(d, static_cast<S>(q));
    std::fill_n(rows_, kChunk, S{0});
    std::fill_n(crossing_, kChunk, S{0});
    for (int64_t s = 0; s < q; ++s) {
      const auto here = hn::Set(d, static_cast<S>(s));
      auto sum = hn::Zero(d);
      // rows_[t]: the sum of dM . M of t over 0..s.
      for (int64_t t = s / Lanes<S>() * Lanes<S>(); t < q; t += Lanes<S>()) {
        const auto at_t = hn::Iota(d, static_cast<S>(t));
        const auto inside = hn::Lt(at_t, end);
        const auto dM = hn::LoadU(d, for_masked_ + s * q + t);
        const auto dscore =
            hn::IfThenElseZero(inside, hn::Mul(dM, hn::Load(d, L_ + s * L_stride_ + t)));
        const auto score = hn::IfThenElseZero(inside, hn::LoadU(d, scores + s * q + t));
        hn::StoreU(hn::Add(hn::LoadU(d, dscores + s * q + t), dscore), d, dscores + s * q + t);
        const auto row = hn::MulAdd(dscore, score, hn::Load(d, rows_ + t));
        hn::Store(row, d, rows_ + t);
        sum = hn::Add(sum, hn::IfThenElseZero(hn::Gt(at_t, here), row));
      }
      if (s + 1 < q) crossing_[s + 1] = hn::GetLane(hn::SumOfLanes(d, sum));
    }
    for (int64_t t = 0; t < q; ++t) {
      const S* C = args_.C + OfGroup(at, first + t);
      const S* B = args_.B + OfGroup(at, first + t);
      S *dC = g_.dC + (first + t) * N_, *dB = g_.dB + (first + t) * N_;
      reads_[t] = AddRow(k_.from_start[t], C, for_C_ + t * N_, dC, N_);
      writes_[t] = AddRow(k_.to_end[t], B, for_B_ + t * N_, dB, N_);
    }
  }

  // dx = delta dX + D dy; leaves x . dX, the direct part of the gradient of delta, in rows_.
  void WriteInputs(const Head<S, T>& at, int64_t head, int64_t first, int64_t q) {
    const S *dy = G_ - q * P_, *delta = Delta(at, first);
    const S* D_of_head = args_.D != nullptr ? args_.D + head * P_ : nullptr;
    S* dD = g_.dD + at.number * P_;
    for (int64_t t = 0; t < q; ++t) {
      const T* x = X(at, first + t);
      T* dx = static_cast<T*>(g_.dx) + at.x + (first + t) * at.x_stride;
      const hn::ScalableTag<S> whole;
      auto sum = hn::Zero(whole);
      S rest = 0;
      ForLanes<S>(P_, [&](auto d, int64_t i) HWY_ATTR {
        const auto of_x = hn::LoadU(d, for_delta_x_ + t * P_ + i), u = LoadWidened(d, x + i);
        const auto of_y = hn::LoadU(d, dy + t * P_ + i);
        auto v = hn::Mul(hn::Set(d, delta[t]), of_x);
        if (D_of_head != nullptr) v = hn::MulAdd(hn::LoadU(d, D_of_head + i), of_y, v);
        Write(v, d, dx + i);
        hn::StoreU(hn::MulAdd(of_y, u, hn::LoadU(d, dD + i)), d, dD + i);
        if constexpr (std::is_same_v<decltype(d), hn::ScalableTag<S>>) {
          sum = hn::MulAdd(u, of_x, sum);
        } else {
          rest += hn::GetLane(hn::Mul(u, of_x));
        }
      });
      rows_[t] = hn::GetLane(hn::SumOfLanes(whole, sum)) + rest;
    }
  }

  // The gradients of delta; returns what the chunk adds to that of A.
  double SumCrossings(const Head<S, T>& at, int64_t head, int64_t first, int64_t q, S whole) {
    const S* delta = Delta(at, first);
    S* ddelta = g_.ddelta + at.number * args_.length + first;
    double read = 0, written = 0, dA = 0;
    for (int64_t t = q - 1; t >= 0; --t) {  // in `crossing`, what is read at t and later
      read += static_cast<double>(reads_[t]);
      crossing_[t] += static_cast<S>(read);
    }
    for (int64_t t = 0; t < q; ++t) {
      const S all = crossing_[t] + static_cast<S>(written) + whole;
      written += static_cast<double>(writes_[t]);
      // Past the largest decay the sum does not depend on it.
      const bool free =
          static_cast<double>(delta[t]) * static_cast<double>(args_.A[head]) >= -kMostDecay;
      ddelta[t] = rows_[t] + (free ? all * args_.A[head] : S{0});
      dA += free ? static_cast<double>(all * delta[t]) : 0;
    }
    return dA;
  }

  const SsdArgs<S>& args_;
  const SsdGradients<S>& g_;
  const int64_t P_, N_, most_, L_stride_;
  Parts<S> memory_;
  Decay<S> k_;
  S *left_, *L_, *right_, *G_;  // G_: the lower part of right_
  S *delta_x_, *for_delta_x_, *for_masked_, *for_C_, *for_B_, *read_, *added_;
  S *crossing_, *rows_, *reads_, *writes_;
  S* states_;  // before each chunk, [state, head_dim] each
};

template <class S, class T>
void Backward(const SsdArgs<S>& args, const SsdGradients<S>& g, int64_t row, int64_t begin,
              int64_t end) {
  Back<S, T> back(args, g);
  for (int64_t head = begin; head < end; ++head) back.Run(row, head);
}
void BackwardF32(const SsdArgs<float>& args, const SsdGradients<float>& g, int64_t row,
                 int64_t begin, int64_t end) {
  Backward<float, float>(args, g, row, begin, end);
}
void BackwardBF16(const SsdArgs<float>& args, const SsdGradients<float>& g, int64_t row,
                  int64_t begin, int64_t end) {
  Backward<float, BFloat16>(args, g, row, begin, end);
}
void BackwardF64(const SsdArgs<double>& args, const SsdGradients<double>& g, int64_t row,
                 int64_t begin, int64_t end) {
  Backward<double, double>(args, g, row, begin, end);
}

}  // namespace HWY_NAMESPACE
}  // namespace ssd_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace ssd_internal {

HWY_EXPORT(BackwardF32);
HWY_EXPORT(BackwardBF16);
HWY_EXPORT(BackwardF64);

void BackwardF32(const SsdArgs<float>& args, const SsdGradients<float>& g, int64_t row,
                 int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(BackwardF32)(args, g, row, begin, end);
}
void BackwardBF16(const SsdArgs<float>& args, const SsdGradients<float>& g, int64_t row,
                  int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(BackwardBF16)(args, g, row, begin, end);
}
void BackwardF64(const SsdArgs<double>& args, const SsdGradients<double>& g, int64_t row,
                 int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(BackwardF64)(args, g, row, begin, end);
}

}  // namespace ssd_internal
}  // namespace residual
#endif  // HWY_ONCE
