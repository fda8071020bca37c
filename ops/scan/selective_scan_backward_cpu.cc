#include "ops/scan/selective_scan_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/scan/selective_scan_backward_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/highway.h"
#include "ops/scan/selective_scan-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace scan_internal {
namespace HWY_NAMESPACE {

// Sums of the backward pass that one block adds to: [state][lanes] each.
struct BlockSums {
  float *carry, *dA, *dB, *dC;  // carry: the gradient of the state
};

// One position back. g is the gradient of h_t, of which carry has what comes from later positions:
//   g = dy C + carry            carry = exp(delta A) g, for h_{t-1}
//   dA += g exp(delta A) h_{t-1} delta
//   dB += g delta u             dC += dy h_t
// Returns in `for_delta` the sum over the state of g exp(delta A) h_{t-1} A, in `for_du` of g B.
template <bool kVarying>
HWY_INLINE void Retreat(D d, V delta, V du, V dy, const float* HWY_RESTRICT A, Coefficients B,
                        Coefficients C, int64_t state, const float* factors, const float* before,
                        const float* after, const BlockSums& sums, V& for_delta, V& for_du) {
  const int64_t lanes = Lanes();
  V of_delta = hn::Zero(d), of_du = hn::Zero(d);
  for (int64_t n = 0; n < state; ++n) {
    const int64_t i = n * lanes;
    const V a = hn::Load(d, factors + i);
    const V g = hn::MulAdd(dy, At<kVarying>(d, C, n), hn::Load(d, sums.carry + i));
    const V from_before = hn::Mul(g, hn::Mul(a, hn::Load(d, before + i)));
    hn::Store(hn::Mul(a, g), d, sums.carry + i);
    hn::Store(hn::MulAdd(from_before, delta, hn::Load(d, sums.dA + i)), d, sums.dA + i);
    hn::Store(hn::MulAdd(g, du, hn::Load(d, sums.dB + i)), d, sums.dB + i);
    hn::Store(hn::MulAdd(dy, hn::Load(d, after + i), hn::Load(d, sums.dC + i)), d, sums.dC + i);
    of_delta = hn::MulAdd(from_before, hn::Load(d, A + i), of_delta);
    of_du = hn::MulAdd(g, At<kVarying>(d, B, n), of_du);
  }
  for_delta = of_delta;
  for_du = of_du;
}

// Chunks from the last to the first; in each, all blocks of the task after one another, so that
// what they add to the gradients of B and C is summed over lanes once for all.
template <class T>
class Back {
 public:
  Back(const ScanArgs& args, const ScanGradients& g, int64_t row, int64_t begin, int64_t end)
      : args_(args),
        g_(g),
        row_(row),
        begin_(begin),
        end_(end),
        group_(begin / (args.dim / args.groups)),
        vectors_(args.state * Lanes()),
        blocks_((end - begin + Lanes() - 1) / Lanes()),
        decays_(Decays(args, begin, end)),
        varying_(!args.constant_B && !args.constant_C) {
    // A vector's worth of floats each.
    const int64_t states = (kChunk + 1) * vectors_, of_chunk = kChunk * vectors_;
    const int64_t of_blocks = blocks_ * vectors_;
    const int64_t dB = args.constant_B ? of_blocks : of_chunk;
    const int64_t dC = args.constant_C ? of_blocks : of_chunk;
    const int64_t total = states + of_chunk + 4 * vectors_ + 2 * of_blocks + dB + dC +
                          (3 * kChunk + 2 * blocks_) * Lanes();
    scratch_ = hwy::AllocateAligned<float>(total);
    std::fill_n(scratch_.get(), total, 0.0f);
    float* next = scratch_.get();
    const auto take = [&next](int64_t n) { return std::exchange(next, next + n); };
    h_ = take(states);
    factors_ = take(of_chunk);
    zeros_ = take(vectors_);
    k_.A = take(vectors_);
    k_.B = take(vectors_);
    k_.C = take(vectors_);
    carry_ = take(of_blocks);
    dA_ = take(of_blocks);
    dB_ = take(dB);
    dC_ = take(dC);
    y_ = take(kChunk * Lanes());
    u_ = take(kChunk * Lanes());
    delta_ = take(kChunk * Lanes());
    dD_ = take(blocks_ * Lanes());
    dbias_ = take(blocks_ * Lanes());
  }

  void Run(float* dB_of_task, float* dC_of_task) {
    const int64_t states = row_ * args_.dim * args_.state;
    for (int64_t b = 0; b < blocks_; ++b) {
      GatherBlock(g_.dlast ? g_.dlast + states : nullptr, BlockOf(b), args_.state,
                  carry_ + b * vectors_);
    }
    for (int64_t chunk = (args_.length + kChunk - 1) / kChunk - 1; chunk >= 0; --chunk) {
      const int64_t first = chunk * kChunk, count = std::min(kChunk, args_.length - first);
      for (int64_t b = 0; b < blocks_; ++b) {
        ReadConstants(args_, BlockOf(b), k_);
        Recompute(BlockOf(b), chunk, first, count);
        Reverse(b, first, count);
      }
      if (!args_.constant_B) SumLanes(dB_, first, count, dB_of_task);
      if (!args_.constant_C) SumLanes(dC_, first, count, dC_of_task);
    }
    for (int64_t b = 0; b < blocks_; ++b) {
      const Block block = BlockOf(b);
      const int64_t at = b * vectors_, channels = row_ * args_.dim;
      ScatterBlock(dA_ + at, block, args_.state, g_.dA + states);
      ScatterBlock(carry_ + at, block, args_.state, g_.dinitial + states);
      if (args_.constant_B) ScatterBlock(dB_ + at, block, args_.state, g_.dB + states);
      if (args_.constant_C) ScatterBlock(dC_ + at, block, args_.state, g_.dC + states);
      StoreBlock(D(), hn::Load(D(), dD_ + b * Lanes()), g_.dD + channels, block);
      StoreBlock(D(), hn::Load(D(), dbias_ + b * Lanes()), g_.ddelta_bias + channels, block);
    }
  }

 private:
  Block BlockOf(int64_t b) const {
    const int64_t first = begin_ + b * Lanes();
    return {first, std::min(Lanes(), end_ - first)};
  }
  Coefficients B(int64_t at) const {
    return CoefficientsAt(args_.B, args_.constant_B, k_.B, args_, at, group_);
  }
  Coefficients C(int64_t at) const {
    return CoefficientsAt(args_.C, args_.constant_C, k_.C, args_, at, group_);
  }

  // The states, factors, u, delta and y before the gate of a chunk's positions.
  void Recompute(Block block, int64_t chunk, int64_t first, int64_t count) {
    const D d;
    const int64_t lanes = Lanes(), chunks = (args_.length + kChunk - 1) / kChunk;
    const V D_of_block = LoadChannels(d, args_.D, block);
    const float* saved = g_.saved + (row_ * chunks + chunk) * args_.state * args_.dim;
    for (int64_t n = 0; n < args_.state; ++n)
      hn::Store(LoadBlock(d, saved + n * args_.dim, block), d, h_ + n * lanes);
    for (int64_t t = 0; t < count; ++t) {
      const int64_t at = row_ * args_.length + first + t;
      const bool restart = args_.restart != nullptr && args_.restart[at];
      const Position<T> p(d, args_, at, block);
      float *h = h_ + t * vectors_, *factors = factors_ + t * vectors_;
      const V y = AdvanceAs<true>(decays_, varying_, d, p.delta, hn::Mul(p.delta, p.u), k_.A, B(at),
                                  C(at), args_.state, restart ? zeros_ : h, h + vectors_, factors);
      if (restart) std::fill_n(factors, vectors_, 0.0f);  // nothing goes back past here
      hn::Store(hn::MulAdd(D_of_block, p.u, y), d, y_ + t * lanes);
      hn::Store(p.u, d, u_ + t * lanes);
      hn::Store(p.delta, d, delta_ + t * lanes);
    }
  }

  void Reverse(int64_t b, int64_t first, int64_t count) {
    const D d;
    const Block block = BlockOf(b);
    const int64_t lanes = Lanes();
    const V D_of_block = LoadChannels(d, args_.D, block);
    V dD = hn::Load(d, dD_ + b * lanes), dbias = hn::Load(d, dbias_ + b * lanes);
    BlockSums sums{carry_ + b * vectors_, dA_ + b * vectors_, dB_ + b * vectors_,
                   dC_ + b * vectors_};
    for (int64_t t = count - 1; t >= 0; --t) {
      const int64_t at = row_ * args_.length + first + t, in_row = at * args_.dim;
      const V u = hn::Load(d, u_ + t * lanes), delta = hn::Load(d, delta_ + t * lanes);
      V dy = g_.dy ? LoadBlock(d, static_cast<const T*>(g_.dy) + in_row, block) : hn::Zero(d);
      if (args_.z != nullptr) {
        const V z = LoadBlock(d, static_cast<const T*>(args_.z) + in_row, block);
        const V dz = hn::Mul(hn::Mul(dy, hn::Load(d, y_ + t * lanes)), VecSiluSlope(d, z));
        StoreBlock(d, dz, static_cast<T*>(g_.dz) + in_row, block);
        dy = hn::Mul(dy, VecSilu(d, z));
      }
      if (!args_.constant_B) sums.dB = dB_ + t * vectors_;
      if (!args_.constant_C) sums.dC = dC_ + t * vectors_;
      const float *factors = factors_ + t * vectors_, *before = h_ + t * vectors_;
      V for_delta, for_du;
      if (varying_) {
        Retreat<true>(d, delta, hn::Mul(delta, u), dy, k_.A, B(at), C(at), args_.state, factors,
                      before, before + vectors_, sums, for_delta, for_du);
      } else {
        Retreat<false>(d, delta, hn::Mul(delta, u), dy, k_.A, B(at), C(at), args_.state, factors,
                       before, before + vectors_, sums, for_delta, for_du);
      }
      StoreBlock(d, hn::MulAdd(D_of_block, dy, hn::Mul(delta, for_du)),
                 static_cast<T*>(g_.du) + in_row, block);
      V ddelta = hn::MulAdd(u, for_du, for_delta);
      if (args_.softplus) {
        const V raw = hn::Add(LoadBlock(d, args_.delta + in_row, block),
                              LoadChannels(d, args_.delta_bias, block));
        ddelta = hn::Mul(ddelta, VecSigmoid(d, raw));
      }
      StoreBlock(d, ddelta, g_.ddelta + in_row, block);
      dD = hn::MulAdd(dy, u, dD);
      dbias = hn::Add(dbias, ddelta);
    }
    hn::Store(dD, d, dD_ + b * lanes);
    hn::Store(dbias, d, dbias_ + b * lanes);
  }

  // [positions][state][lanes] to [positions, state] from `first` on; the sums start anew.
  void SumLanes(float* sums, int64_t first, int64_t count, float* to) {
    const D d;
    for (int64_t i = 0; i < count * args_.state; ++i) {
      to[first * args_.state + i] = hn::GetLane(hn::SumOfLanes(d, hn::Load(d, sums + i * Lanes())));
    }
    std::fill_n(sums, count * vectors_, 0.0f);
  }

  const ScanArgs& args_;
  const ScanGradients& g_;
  const int64_t row_, begin_, end_, group_, vectors_, blocks_;
  const bool decays_, varying_;
  hwy::AlignedFreeUniquePtr<float[]> scratch_;
  BlockConstants k_;
  float *h_, *factors_, *zeros_;    // of a chunk: [kChunk + 1], [kChunk] times [state][lanes]
  float *y_, *u_, *delta_;          // of a chunk: [lanes] each position
  float *carry_, *dA_, *dB_, *dC_;  // see BlockSums
  float *dD_, *dbias_;              // [blocks][lanes]
};

template <class T>
void Backward(const ScanArgs& args, const ScanGradients& g, int64_t row, int64_t task,
              int64_t tasks, int64_t begin, int64_t end) {
  const int64_t part = (row * tasks + task) * args.length * args.state;
  Back<T>(args, g, row, begin, end).Run(g.dB + part, g.dC + part);
}

void BackwardF32(const ScanArgs& args, const ScanGradients& g, int64_t row, int64_t task,
                 int64_t tasks, int64_t begin, int64_t end) {
  Backward<float>(args, g, row, task, tasks, begin, end);
}
void BackwardBF16(const ScanArgs& args, const ScanGradients& g, int64_t row, int64_t task,
                  int64_t tasks, int64_t begin, int64_t end) {
  Backward<BFloat16>(args, g, row, task, tasks, begin, end);
}

}  // namespace HWY_NAMESPACE
}  // namespace scan_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace scan_internal {

HWY_EXPORT(BackwardF32);
HWY_EXPORT(BackwardBF16);

void BackwardF32(const ScanArgs& args, const ScanGradients& g, int64_t row, int64_t task,
                 int64_t tasks, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(BackwardF32)(args, g, row, task, tasks, begin, end);
}
void BackwardBF16(const ScanArgs& args, const ScanGradients& g, int64_t row, int64_t task,
                  int64_t tasks, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(BackwardBF16)(args, g, row, task, tasks, begin, end);
}

}  // namespace scan_internal
}  // namespace residual
#endif  // HWY_ONCE
