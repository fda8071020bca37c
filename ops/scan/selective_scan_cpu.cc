#include <algorithm>
#include <utility>

#include "ops/scan/selective_scan_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/scan/selective_scan_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/aligned_allocator.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "ops/simd/activation-inl.h"
#include "ops/simd/convert-inl.h"
#include "ops/simd/vec_math-inl.h"
#include "tensor/core/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace scan_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using residual::HWY_NAMESPACE::ExpOfNonPositive;
using residual::HWY_NAMESPACE::LoadWidened;
using residual::HWY_NAMESPACE::StoreRounded;
using residual::HWY_NAMESPACE::VecExp;
using residual::HWY_NAMESPACE::VecSigmoid;
using residual::HWY_NAMESPACE::VecSilu;
using residual::HWY_NAMESPACE::VecSiluSlope;
using residual::HWY_NAMESPACE::VecSoftplus;

// A lane is a channel: as many channels as a vector has lanes, a block, go through the sequence
// together, one vector per dimension of the state. B_t and C_t are the same for all of them.
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

int64_t Lanes() { return static_cast<int64_t>(hn::Lanes(D())); }

// A block of channels: the first, and how many of a vector's lanes are channels.
struct Block {
  int64_t first, width;
};

// Lanes that are no channel read zero.
template <class T>
HWY_INLINE V LoadBlock(D d, const T* row, Block block) {
  if (block.width == Lanes()) return LoadWidened(d, row + block.first);
  HWY_ALIGN T part[HWY_MAX_BYTES / sizeof(float)] = {};
  std::copy_n(row + block.first, block.width, part);
  return LoadWidened(d, part);
}

template <class T>
HWY_INLINE void StoreBlock(D d, V v, T* row, Block block) {
  if (block.width == Lanes()) return StoreRounded(v, d, row + block.first);
  HWY_ALIGN T part[HWY_MAX_BYTES / sizeof(float)];
  StoreRounded(v, d, part);
  std::copy_n(part, block.width, row + block.first);
}

// Rows and columns exchanged, [rows, columns] to [columns, rows], each with its stride. Four by
// four where there are vectors for it: a step of one position is bound by this otherwise.
void Exchange(const float* from, int64_t from_stride, int64_t rows, int64_t columns, float* to,
              int64_t to_stride) {
  int64_t r = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::FixedTag<float, 4> four;
  for (; r + 4 <= rows; r += 4) {
    int64_t c = 0;
    for (; c + 4 <= columns; c += 4) {
      const float* source = from + r * from_stride + c;
      const auto r0 = hn::LoadU(four, source), r1 = hn::LoadU(four, source + from_stride);
      const auto r2 = hn::LoadU(four, source + 2 * from_stride);
      const auto r3 = hn::LoadU(four, source + 3 * from_stride);
      const auto low02 = hn::InterleaveLower(four, r0, r2);
      const auto high02 = hn::InterleaveUpper(four, r0, r2);
      const auto low13 = hn::InterleaveLower(four, r1, r3);
      const auto high13 = hn::InterleaveUpper(four, r1, r3);
      float* target = to + c * to_stride + r;
      hn::StoreU(hn::InterleaveLower(four, low02, low13), four, target);
      hn::StoreU(hn::InterleaveUpper(four, low02, low13), four, target + to_stride);
      hn::StoreU(hn::InterleaveLower(four, high02, high13), four, target + 2 * to_stride);
      hn::StoreU(hn::InterleaveUpper(four, high02, high13), four, target + 3 * to_stride);
    }
    for (; c < columns; ++c) {
      for (int64_t i = r; i < r + 4; ++i) to[c * to_stride + i] = from[i * from_stride + c];
    }
  }
#endif
  for (; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) to[c * to_stride + r] = from[r * from_stride + c];
  }
}

// Rows of channels [.., state] to vectors [state][lanes], and back.
void GatherBlock(const float* rows, Block block, int64_t state, float* to) {
  const int64_t lanes = Lanes();
  if (rows == nullptr || block.width < lanes) std::fill_n(to, state * lanes, 0.0f);
  if (rows == nullptr) return;
  Exchange(rows + block.first * state, state, block.width, state, to, lanes);
}
void ScatterBlock(const float* from, Block block, int64_t state, float* rows) {
  Exchange(from, Lanes(), state, block.width, rows + block.first * state, state);
}

// B or C at one position: numbers for all channels, or vectors of the block's.
struct Coefficients {
  const float* varying;
  const float* constant;
};
template <bool kVarying>
HWY_INLINE V At(D d, const Coefficients& c, int64_t n) {
  if (kVarying || c.varying != nullptr) return hn::Set(d, c.varying[n]);
  return hn::Load(d, c.constant + n * Lanes());
}

template <bool kNonPositive>
HWY_INLINE V Exp(D d, V x) {
  return kNonPositive ? ExpOfNonPositive(d, x) : VecExp(d, x);
}

// h = exp(delta A) h + du B; returns C . h. Where `factors` is given, exp(delta A) is left there.
// Four at a time, for the compiler to interleave their exponentials.
template <bool kNonPositive, bool kVarying, bool kKeep>
V Advance(D d, V delta, V du, const float* HWY_RESTRICT A, Coefficients B, Coefficients C,
          int64_t state, const float* from, float* to, float* HWY_RESTRICT factors) {
  const int64_t lanes = Lanes();
  V even = hn::Zero(d), odd = hn::Zero(d);
  int64_t n = 0;
  for (; n + 4 <= state; n += 4) {
    const int64_t i = n * lanes;
    const V a0 = Exp<kNonPositive>(d, hn::Mul(delta, hn::Load(d, A + i)));
    const V a1 = Exp<kNonPositive>(d, hn::Mul(delta, hn::Load(d, A + i + lanes)));
    const V a2 = Exp<kNonPositive>(d, hn::Mul(delta, hn::Load(d, A + i + 2 * lanes)));
    const V a3 = Exp<kNonPositive>(d, hn::Mul(delta, hn::Load(d, A + i + 3 * lanes)));
    const V h0 = hn::MulAdd(a0, hn::Load(d, from + i), hn::Mul(du, At<kVarying>(d, B, n)));
    const V h1 =
        hn::MulAdd(a1, hn::Load(d, from + i + lanes), hn::Mul(du, At<kVarying>(d, B, n + 1)));
    const V h2 =
        hn::MulAdd(a2, hn::Load(d, from + i + 2 * lanes), hn::Mul(du, At<kVarying>(d, B, n + 2)));
    const V h3 =
        hn::MulAdd(a3, hn::Load(d, from + i + 3 * lanes), hn::Mul(du, At<kVarying>(d, B, n + 3)));
    hn::Store(h0, d, to + i);
    hn::Store(h1, d, to + i + lanes);
    hn::Store(h2, d, to + i + 2 * lanes);
    hn::Store(h3, d, to + i + 3 * lanes);
    if (kKeep) {
      hn::Store(a0, d, factors + i);
      hn::Store(a1, d, factors + i + lanes);
      hn::Store(a2, d, factors + i + 2 * lanes);
      hn::Store(a3, d, factors + i + 3 * lanes);
    }
    even = hn::MulAdd(h0, At<kVarying>(d, C, n), even);
    odd = hn::MulAdd(h1, At<kVarying>(d, C, n + 1), odd);
    even = hn::MulAdd(h2, At<kVarying>(d, C, n + 2), even);
    odd = hn::MulAdd(h3, At<kVarying>(d, C, n + 3), odd);
  }
  for (; n < state; ++n) {
    const int64_t i = n * lanes;
    const V a = Exp<kNonPositive>(d, hn::Mul(delta, hn::Load(d, A + i)));
    const V h = hn::MulAdd(a, hn::Load(d, from + i), hn::Mul(du, At<kVarying>(d, B, n)));
    hn::Store(h, d, to + i);
    if (kKeep) hn::Store(a, d, factors + i);
    even = hn::MulAdd(h, At<kVarying>(d, C, n), even);
  }
  return hn::Add(even, odd);
}

// exp(delta A) is at most 1 where delta comes from softplus and A is not positive.
bool Decays(const ScanArgs& args, int64_t begin, int64_t end) {
  if (!args.softplus) return false;
  const D d;
  const float *a = args.A + begin * args.state, *last = args.A + end * args.state;
  for (; a + Lanes() <= last; a += Lanes()) {
    if (!hn::AllTrue(d, hn::Le(hn::LoadU(d, a), hn::Zero(d)))) return false;
  }
  return std::all_of(a, last, [](float x) { return x <= 0; });
}

template <bool kKeep>
HWY_INLINE V AdvanceAs(bool decays, bool varying, D d, V delta, V du, const float* A,
                       Coefficients B, Coefficients C, int64_t state, const float* from, float* to,
                       float* factors) {
  if (!varying) {
    return Advance<false, false, kKeep>(d, delta, du, A, B, C, state, from, to, factors);
  }
  return decays ? Advance<true, true, kKeep>(d, delta, du, A, B, C, state, from, to, factors)
                : Advance<false, true, kKeep>(d, delta, du, A, B, C, state, from, to, factors);
}

// What is the same for all positions of a block: [state][lanes], B and C if they are constant.
struct BlockConstants {
  float *A, *B, *C;
};

// One number for each channel; zeros where there is none.
HWY_INLINE V LoadChannels(D d, const float* x, Block block) {
  return x != nullptr ? LoadBlock(d, x, block) : hn::Zero(d);
}

// The inputs of one position, by channel.
template <class T>
struct Position {
  V u, delta;
  HWY_INLINE Position(D d, const ScanArgs& args, int64_t at, Block block) {
    u = LoadBlock(d, static_cast<const T*>(args.u) + at * args.dim, block);
    const V raw = hn::Add(LoadBlock(d, args.delta + at * args.dim, block),
                          LoadChannels(d, args.delta_bias, block));
    delta = args.softplus ? VecSoftplus(d, raw) : raw;
  }
};

// Asks for what later positions read: their rows lie on other pages, where the processor does not
// look by itself.
template <class T>
HWY_INLINE void FetchAhead(const ScanArgs& args, int64_t at, Block block) {
  const int64_t ahead = (at + 4) * args.dim + block.first;
  hwy::Prefetch(static_cast<const T*>(args.u) + ahead);
  hwy::Prefetch(args.delta + ahead);
  if (args.z != nullptr) hwy::Prefetch(static_cast<const T*>(args.z) + ahead);
}

Coefficients CoefficientsAt(const float* all, bool constant, const float* of_block,
                            const ScanArgs& args, int64_t at, int64_t group) {
  if (constant) return {nullptr, of_block};
  return {all + (at * args.groups + group) * args.state, nullptr};
}

void ReadConstants(const ScanArgs& args, Block block, const BlockConstants& k) {
  GatherBlock(args.A, block, args.state, k.A);
  if (args.constant_B) GatherBlock(args.B, block, args.state, k.B);
  if (args.constant_C) GatherBlock(args.C, block, args.state, k.C);
}

// All blocks of a task take a step together. [2048, 1536] with 16 states takes two threads 9.2 ms;
// without fetching ahead 14.5; block after block, which reads 64 bytes of a row at a time, 10.0.
template <class T>
void Forward(const ScanArgs& args, const ScanOutputs& out, int64_t row, int64_t begin,
             int64_t end) {
  const D d;
  const int64_t lanes = Lanes(), state = args.state, vectors = state * lanes;
  const int64_t blocks = (end - begin + lanes - 1) / lanes;
  const int64_t group = begin / (args.dim / args.groups), states = row * args.dim * state;
  const int64_t chunks = (args.length + kChunk - 1) / kChunk;
  const auto scratch = hwy::AllocateAligned<float>(blocks * (4 * vectors + lanes));  // never none
  float* const all_h = scratch.get() + 3 * blocks * vectors;
  const auto block_of = [&](int64_t b) {
    return Block{begin + b * lanes, std::min(lanes, end - begin - b * lanes)};
  };
  const auto constants_of = [&](int64_t b) {
    float* const first = scratch.get() + 3 * b * vectors;
    return BlockConstants{first, first + vectors, first + 2 * vectors};
  };
  for (int64_t b = 0; b < blocks; ++b) {
    ReadConstants(args, block_of(b), constants_of(b));
    GatherBlock(args.initial_state ? args.initial_state + states : nullptr, block_of(b), state,
                all_h + b * vectors);
  }
  const bool decays = Decays(args, begin, end), varying = !args.constant_B && !args.constant_C;
  for (int64_t t = 0; t < args.length; ++t) {
    const int64_t at = row * args.length + t;
    const bool saves = out.saved != nullptr && t % kChunk == 0;
    const bool restart = args.restart != nullptr && args.restart[at];
    for (int64_t b = 0; b < blocks; ++b) {
      const Block block = block_of(b);
      const BlockConstants k = constants_of(b);
      float* h = all_h + b * vectors;
      if (saves) {
        float* saved = out.saved + (row * chunks + t / kChunk) * state * args.dim;
        for (int64_t n = 0; n < state; ++n)
          StoreBlock(d, hn::Load(d, h + n * lanes), saved + n * args.dim, block);
      }
      if (restart) std::fill_n(h, vectors, 0.0f);
      FetchAhead<T>(args, at, block);
      const Position<T> p(d, args, at, block);
      V y = AdvanceAs<false>(decays, varying, d, p.delta, hn::Mul(p.delta, p.u), k.A,
                             CoefficientsAt(args.B, args.constant_B, k.B, args, at, group),
                             CoefficientsAt(args.C, args.constant_C, k.C, args, at, group), state,
                             h, h, nullptr);
      y = hn::MulAdd(LoadChannels(d, args.D, block), p.u, y);
      if (args.z != nullptr) {
        const V z = LoadBlock(d, static_cast<const T*>(args.z) + at * args.dim, block);
        y = hn::Mul(y, VecSilu(d, z));
      }
      StoreBlock(d, y, static_cast<T*>(out.y) + at * args.dim, block);
    }
  }
  for (int64_t b = 0; b < blocks; ++b)
    ScatterBlock(all_h + b * vectors, block_of(b), state, out.last_state + states);
}

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

void ForwardF32(const ScanArgs& args, const ScanOutputs& out, int64_t row, int64_t begin,
                int64_t end) {
  Forward<float>(args, out, row, begin, end);
}
void ForwardBF16(const ScanArgs& args, const ScanOutputs& out, int64_t row, int64_t begin,
                 int64_t end) {
  Forward<BFloat16>(args, out, row, begin, end);
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

HWY_EXPORT(ForwardF32);
HWY_EXPORT(ForwardBF16);
HWY_EXPORT(BackwardF32);
HWY_EXPORT(BackwardBF16);

void ForwardF32(const ScanArgs& args, const ScanOutputs& out, int64_t row, int64_t begin,
                int64_t end) {
  HWY_DYNAMIC_DISPATCH(ForwardF32)(args, out, row, begin, end);
}
void ForwardBF16(const ScanArgs& args, const ScanOutputs& out, int64_t row, int64_t begin,
                 int64_t end) {
  HWY_DYNAMIC_DISPATCH(ForwardBF16)(args, out, row, begin, end);
}
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
