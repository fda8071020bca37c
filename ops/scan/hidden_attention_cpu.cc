#include "ops/scan/hidden_attention_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/scan/hidden_attention_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/highway.h"
#include "ops/scan/selective_scan-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace scan_internal {
namespace HWY_NAMESPACE {

// Channels that take a vector's lanes: those from `first` on in the list of the wanted, all of one
// group.
struct Lot {
  int64_t first, width, group;
};

// A row of M from its diagonal to the left: g, at first C_t, takes on the factor of each position
// it passes.
class Rows {
 public:
  Rows(const AttentionArgs& args, int64_t row, int64_t begin, int64_t end)
      : args_(args),
        scan_(args.scan),
        row_(row),
        begin_(begin),
        end_(end),
        vectors_(args.scan.state * Lanes()),
        sums_(args.output != AttentionOutput::kChannels) {
    const int64_t kept = end * Lanes();  // a row of M, or all the sums of the task
    scratch_ = hwy::AllocateAligned<float>(end * (vectors_ + Lanes()) + 4 * vectors_ +
                                           (sums_ ? end - begin : 1) * kept);
    factors_ = scratch_.get();
    delta_ = factors_ + end * vectors_;
    A_ = delta_ + end * Lanes();
    B_ = A_ + vectors_;
    C_ = B_ + vectors_;
    g_ = C_ + vectors_;
    kept_ = g_ + vectors_;
    std::fill_n(kept_, (sums_ ? end - begin : 1) * kept, 0.0f);
  }

  void Run() {
    const int64_t of_group = scan_.dim / scan_.groups;
    const int64_t count = static_cast<int64_t>(args_.channels.size());
    for (int64_t first = 0; first < count;) {
      Lot lot{first, 1, args_.channels[first] / of_group};
      while (lot.width < Lanes() && first + lot.width < count &&
             args_.channels[first + lot.width] / of_group == lot.group) {
        ++lot.width;
      }
      Prepare(lot);
      for (int64_t t = begin_; t < end_; ++t) Row(lot, t);
      first += lot.width;
    }
    if (sums_) WriteSums();
  }

 private:
  int64_t Channel(const Lot& lot, int64_t lane) const { return args_.channels[lot.first + lane]; }

  // Channels' rows [.., state] to vectors [state][lanes].
  void Gather(const Lot& lot, const float* rows, float* to) const {
    std::fill_n(to, vectors_, 0.0f);
    for (int64_t c = 0; c < lot.width; ++c) {
      for (int64_t n = 0; n < scan_.state; ++n)
        to[n * Lanes() + c] = rows[Channel(lot, c) * scan_.state + n];
    }
  }

  // The steps and factors of all positions up to the last row.
  void Prepare(const Lot& lot) {
    const D d;
    const int64_t lanes = Lanes();
    Gather(lot, scan_.A, A_);
    if (scan_.constant_B) Gather(lot, scan_.B, B_);
    if (scan_.constant_C) Gather(lot, scan_.C, C_);
    HWY_ALIGN float raw[HWY_MAX_BYTES / sizeof(float)] = {};
    for (int64_t s = 0; s < end_; ++s) {
      const int64_t at = row_ * scan_.length + s;
      for (int64_t c = 0; c < lot.width; ++c) {
        raw[c] = scan_.delta[at * scan_.dim + Channel(lot, c)];
        if (scan_.delta_bias != nullptr) raw[c] += scan_.delta_bias[Channel(lot, c)];
      }
      V delta = hn::Load(d, raw);
      if (scan_.softplus) delta = VecSoftplus(d, delta);
      hn::Store(delta, d, delta_ + s * lanes);
      float* factors = factors_ + s * vectors_;
      if (scan_.restart != nullptr && scan_.restart[at]) {
        std::fill_n(factors, vectors_, 0.0f);
        continue;
      }
      for (int64_t i = 0; i < vectors_; i += lanes)
        hn::Store(VecExp(d, hn::Mul(delta, hn::Load(d, A_ + i))), d, factors + i);
    }
  }

  void Row(const Lot& lot, int64_t t) {
    const D d;
    const int64_t lanes = Lanes(), first = row_ * scan_.length;
    const Coefficients C =
        CoefficientsAt(scan_.C, scan_.constant_C, C_, scan_, first + t, lot.group);
    for (int64_t n = 0; n < scan_.state; ++n) hn::Store(At<false>(d, C, n), d, g_ + n * lanes);
    const auto inside = hn::FirstN(d, static_cast<size_t>(lot.width));
    float* kept = kept_ + (sums_ ? (t - begin_) * end_ * lanes : 0);
    for (int64_t s = t; s >= 0; --s) {
      const Coefficients B =
          CoefficientsAt(scan_.B, scan_.constant_B, B_, scan_, first + s, lot.group);
      const float* factors = factors_ + s * vectors_;
      V even = hn::Zero(d), odd = even;
      int64_t n = 0;
      for (; n + 2 <= scan_.state; n += 2) {
        const int64_t i = n * lanes, j = i + lanes;
        const V g0 = hn::Load(d, g_ + i), g1 = hn::Load(d, g_ + j);
        even = hn::MulAdd(g0, At<false>(d, B, n), even);
        odd = hn::MulAdd(g1, At<false>(d, B, n + 1), odd);
        hn::Store(hn::Mul(g0, hn::Load(d, factors + i)), d, g_ + i);
        hn::Store(hn::Mul(g1, hn::Load(d, factors + j)), d, g_ + j);
      }
      for (; n < scan_.state; ++n) {
        const V g = hn::Load(d, g_ + n * lanes);
        even = hn::MulAdd(g, At<false>(d, B, n), even);
        hn::Store(hn::Mul(g, hn::Load(d, factors + n * lanes)), d, g_ + n * lanes);
      }
      V m = hn::Mul(hn::Add(even, odd), hn::Load(d, delta_ + s * lanes));
      if (args_.output == AttentionOutput::kAbsoluteSum) m = hn::Abs(m);
      if (sums_) m = hn::Add(hn::Load(d, kept + s * lanes), hn::IfThenElseZero(inside, m));
      hn::Store(m, d, kept + s * lanes);
    }
    if (!sums_) WriteRow(lot, t);
  }

  // [s][lanes] to a row of each channel's matrix; nothing is above the diagonal.
  void WriteRow(const Lot& lot, int64_t t) {
    const int64_t length = scan_.length, count = static_cast<int64_t>(args_.channels.size());
    float* to = args_.to + (row_ * count + lot.first) * length * length + t * length;
    Transpose<true>(t + 1, lot.width, 1, kept_, Lanes(), to, length * length);
    for (int64_t c = 0; c < lot.width; ++c)
      std::fill_n(to + c * length * length + t + 1, length - t - 1, 0.0f);
  }

  void WriteSums() {
    const D d;
    for (int64_t t = begin_; t < end_; ++t) {
      float* to = args_.to + (row_ * scan_.length + t) * scan_.length;
      std::fill_n(to, scan_.length, 0.0f);
      for (int64_t s = 0; s <= t; ++s) {
        const V sum = hn::Load(d, kept_ + ((t - begin_) * end_ + s) * Lanes());
        to[s] = hn::GetLane(hn::SumOfLanes(d, sum)) / static_cast<float>(args_.channels.size());
      }
    }
  }

  const AttentionArgs& args_;
  const ScanArgs& scan_;
  const int64_t row_, begin_, end_, vectors_;
  const bool sums_;
  hwy::AlignedFreeUniquePtr<float[]> scratch_;
  float *factors_, *delta_;  // of each position: [state][lanes], [lanes]
  float *A_, *B_, *C_, *g_;  // [state][lanes]
  float* kept_;              // [lanes] of each s: of one row, or of each row of the task
};

void AttentionRows(const AttentionArgs& args, int64_t row, int64_t begin, int64_t end) {
  Rows(args, row, begin, end).Run();
}

}  // namespace HWY_NAMESPACE
}  // namespace scan_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace scan_internal {

HWY_EXPORT(AttentionRows);

void AttentionRows(const AttentionArgs& args, int64_t row, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(AttentionRows)(args, row, begin, end);
}

}  // namespace scan_internal
}  // namespace residual
#endif  // HWY_ONCE
