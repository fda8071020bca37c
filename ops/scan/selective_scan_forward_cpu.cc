#include "ops/scan/selective_scan_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/scan/selective_scan_forward_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/highway.h"
#include "ops/scan/selective_scan-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace scan_internal {
namespace HWY_NAMESPACE {

// Asks for what later positions read: their rows lie on other pages, where the processor does not
// look by itself.
template <class T>
HWY_INLINE void FetchAhead(const ScanArgs& args, int64_t at, Block block) {
  const int64_t ahead = (at + 4) * args.dim + block.first;
  hwy::Prefetch(static_cast<const T*>(args.u) + ahead);
  hwy::Prefetch(args.delta + ahead);
  if (args.z != nullptr) hwy::Prefetch(static_cast<const T*>(args.z) + ahead);
}

// (y + D u) silu(z) at one position, where y is C . h.
template <class T>
HWY_INLINE void WriteOutput(D d, const ScanArgs& args, const Position<T>& p, int64_t at,
                            Block block, V y, T* to) {
  y = hn::MulAdd(LoadChannels(d, args.D, block), p.u, y);
  if (args.z != nullptr) {
    const V z = LoadBlock(d, static_cast<const T*>(args.z) + at * args.dim, block);
    y = hn::Mul(y, VecSilu(d, z));
  }
  StoreBlock(d, y, to + at * args.dim, block);
}

// One position alone, where a channel's state is whole vectors: they are read and written as they
// lie, and only the new ones turned, to be summed in the order of Advance. 1536 channels with 16
// states, from a state, take one thread of a Zen 4 13.6 us, two 8.2 (5.6 of one thread's are the
// exponentials). Turning A and the states too, as for more positions: 16.5 of one thread without a
// state to begin with; turning them number by number: 33.
template <bool kNonPositive, class T>
void Step(const ScanArgs& args, const ScanOutputs& out, int64_t row, int64_t begin, int64_t end) {
  const D d;
  const int64_t lanes = Lanes(), state = args.state;
  const int64_t group = begin / (args.dim / args.groups), states = row * args.dim * state;
  const float* const B = CoefficientsAt(args.B, false, nullptr, args, row, group).varying;
  const float* const C = CoefficientsAt(args.C, false, nullptr, args, row, group).varying;
  const bool begins = args.initial_state == nullptr || (args.restart && args.restart[row]);
  const auto turned = hwy::AllocateAligned<float>(state * lanes + lanes);
  std::fill_n(turned.get(), state * lanes, 0.0f);
  HWY_ALIGN float delta[HWY_MAX_BYTES / sizeof(float)], du[HWY_MAX_BYTES / sizeof(float)];
  for (int64_t first = begin; first < end; first += lanes) {
    const Block block{first, std::min(lanes, end - first)};
    const Position<T> p(d, args, row, block);
    hn::Store(p.delta, d, delta);
    hn::Store(hn::Mul(p.delta, p.u), d, du);
    const float* A = args.A + first * state;
    float* to = out.last_state + states + first * state;
    const float* from = begins ? nullptr : args.initial_state + states + first * state;
    for (int64_t n = 0; n < state; n += lanes) {
      const V written = hn::LoadU(d, B + n);
      const auto after = [&](int64_t c) HWY_ATTR {
        const int64_t i = c * state + n;
        const V a = Exp<kNonPositive>(d, hn::Mul(hn::Set(d, delta[c]), hn::LoadU(d, A + i)));
        const V h = from != nullptr ? hn::LoadU(d, from + i) : hn::Zero(d);
        return hn::MulAdd(a, h, hn::Mul(hn::Set(d, du[c]), written));
      };
      int64_t c = 0;
      for (; c + 4 <= block.width; c += 4) {
        const V h0 = after(c), h1 = after(c + 1), h2 = after(c + 2), h3 = after(c + 3);
        hn::StoreU(h0, d, to + c * state + n);
        hn::StoreU(h1, d, to + (c + 1) * state + n);
        hn::StoreU(h2, d, to + (c + 2) * state + n);
        hn::StoreU(h3, d, to + (c + 3) * state + n);
      }
      for (; c < block.width; ++c) hn::StoreU(after(c), d, to + c * state + n);
    }
    Transpose<true>(block.width, state, 1, to, state, turned.get(), lanes);
    V even = hn::Zero(d), odd = even;
    int64_t n = 0;
    for (; n + 2 <= state / 4 * 4; n += 2) {
      even = hn::MulAdd(hn::Load(d, turned.get() + n * lanes), hn::Set(d, C[n]), even);
      odd = hn::MulAdd(hn::Load(d, turned.get() + (n + 1) * lanes), hn::Set(d, C[n + 1]), odd);
    }
    for (; n < state; ++n)
      even = hn::MulAdd(hn::Load(d, turned.get() + n * lanes), hn::Set(d, C[n]), even);
    WriteOutput(d, args, p, row, block, hn::Add(even, odd), static_cast<T*>(out.y));
  }
}

// All blocks of a task take a step together. [2048, 1536] with 16 states takes two threads 9.2 ms;
// without fetching ahead 14.5; block after block, which reads 64 bytes of a row at a time, 10.0.
template <class T>
void Forward(const ScanArgs& args, const ScanOutputs& out, int64_t row, int64_t begin,
             int64_t end) {
  const bool decays = Decays(args, begin, end), varying = !args.constant_B && !args.constant_C;
  if (args.length == 1 && args.state % Lanes() == 0 && varying && out.saved == nullptr) {
    return decays ? Step<true, T>(args, out, row, begin, end)
                  : Step<false, T>(args, out, row, begin, end);
  }
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
      const V y = AdvanceAs<false>(decays, varying, d, p.delta, hn::Mul(p.delta, p.u), k.A,
                                   CoefficientsAt(args.B, args.constant_B, k.B, args, at, group),
                                   CoefficientsAt(args.C, args.constant_C, k.C, args, at, group),
                                   state, h, h, nullptr);
      WriteOutput(d, args, p, at, block, y, static_cast<T*>(out.y));
    }
  }
  for (int64_t b = 0; b < blocks; ++b)
    ScatterBlock(all_h + b * vectors, block_of(b), state, out.last_state + states);
}

void ForwardF32(const ScanArgs& args, const ScanOutputs& out, int64_t row, int64_t begin,
                int64_t end) {
  Forward<float>(args, out, row, begin, end);
}
void ForwardBF16(const ScanArgs& args, const ScanOutputs& out, int64_t row, int64_t begin,
                 int64_t end) {
  Forward<BFloat16>(args, out, row, begin, end);
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

void ForwardF32(const ScanArgs& args, const ScanOutputs& out, int64_t row, int64_t begin,
                int64_t end) {
  HWY_DYNAMIC_DISPATCH(ForwardF32)(args, out, row, begin, end);
}
void ForwardBF16(const ScanArgs& args, const ScanOutputs& out, int64_t row, int64_t begin,
                 int64_t end) {
  HWY_DYNAMIC_DISPATCH(ForwardBF16)(args, out, row, begin, end);
}

}  // namespace scan_internal
}  // namespace residual
#endif  // HWY_ONCE
