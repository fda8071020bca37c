#include "ops/ssd/ssd_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/ssd/ssd_forward_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/highway.h"
#include "ops/ssd/ssd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace ssd_internal {
namespace HWY_NAMESPACE {

// y = sums + D x
template <class S, class T>
void WriteOutput(const S* sums, const S* D_of_head, const T* x, T* y, int64_t stride, int64_t rows,
                 int64_t columns) {
  for (int64_t r = 0; r < rows; ++r) {
    ForLanes<S>(columns, [&](auto d, int64_t i) HWY_ATTR {
      auto v = hn::LoadU(d, sums + r * columns + i);
      if (D_of_head != nullptr) {
        v = hn::MulAdd(hn::LoadU(d, D_of_head + i), LoadWidened(d, x + r * stride + i), v);
      }
      Write(v, d, y + r * stride + i);
    });
  }
}

// y of a chunk is one product, [scores . L | C decayed from the start] [delta x; state].
template <class S, class T>
void Forward(const SsdArgs<S>& args, const SsdOutputs<S>& out, int64_t row, int64_t begin,
             int64_t end) {
  const int64_t P = args.head_dim, N = args.state, most = std::min(kChunk, args.length);
  using Memory = Parts<S>;
  Memory memory(Memory::DecaySize() + Memory::Size(most * (most + N)) + Memory::Size(most * N) +
                Memory::Size((most + N) * P) + Memory::Size(most * P) + Memory::Size(N * P));
  Decay<S> k = memory.TakeDecay();
  S *left = memory.Take(most * (most + N)), *written = memory.Take(most * N);
  S *right = memory.Take((most + N) * P), *sums = memory.Take(most * P);
  S *added = memory.Take(N * P), *state = right + most * P;
  const T* all_x = static_cast<const T*>(args.x);
  T* all_y = static_cast<T*>(out.y);
  for (int64_t head = begin; head < end; ++head) {
    const Head<S, T> at(args, row, head);
    const S* delta = args.delta + at.number * args.length;
    Transpose(args.initial != nullptr ? args.initial + at.state : nullptr, N, P, state);
    for (int64_t chunk = 0; chunk < args.chunks(); ++chunk) {
      const int64_t first = chunk * kChunk, q = std::min(kChunk, args.length - first);
      const int64_t of_group = (at.group * args.length + first) * N;
      const T* x = all_x + at.x + first * at.x_stride;
      S* delta_x = state - q * P;
      Measure(args, row, head, first, q, k);
      ScaleRows(x, at.x_stride, delta + first, delta_x, P, q, P);
      Mask(args.scores + (at.group * args.chunks() + chunk) * kChunk * kChunk, k, q, left, q + N);
      ScaleRows(args.C + of_group, N, k.from_start, left + q, q + N, q, N);
      Multiply(left, false, delta_x, false, sums, q, P, q + N);
      WriteOutput(sums, args.D != nullptr ? args.D + head * P : nullptr, x,
                  all_y + at.x + first * at.x_stride, at.x_stride, q, P);
      ScaleRows(args.B + of_group, N, k.to_end, written, N, q, N);
      Multiply(written, true, delta_x, false, added, N, P, q);
      AddState(k.whole, added, state, N * P);
    }
    Transpose(state, P, N, out.last + at.state);
  }
}

// One position: a row of the state after the other, as they lie. Returns C . h.
template <class S>
HWY_INLINE S StepRow(S decay, const S* from, S x, const S* B, const S* C, S* to, int64_t n) {
  const hn::ScalableTag<S> d;
  const auto a = hn::Set(d, decay), u = hn::Set(d, x);
  auto sum = hn::Zero(d);
  int64_t i = 0;
  for (; i + Lanes<S>() <= n; i += Lanes<S>()) {
    auto h = hn::Mul(u, hn::LoadU(d, B + i));
    if (from != nullptr) h = hn::MulAdd(a, hn::LoadU(d, from + i), h);
    hn::StoreU(h, d, to + i);
    sum = hn::MulAdd(h, hn::LoadU(d, C + i), sum);
  }
  S y = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < n; ++i) {
    to[i] = (from != nullptr ? decay * from[i] : S{0}) + x * B[i];
    y += to[i] * C[i];
  }
  return y;
}

template <class S, class T>
void Steps(const SsdArgs<S>& args, const SsdOutputs<S>& out, int64_t row, int64_t begin,
           int64_t end) {
  const int64_t P = args.head_dim, N = args.state;
  for (int64_t head = begin; head < end; ++head) {
    const Head<S, T> at(args, row, head);
    S* const state = out.last + at.state;
    const S* from = args.initial != nullptr ? args.initial + at.state : nullptr;
    for (int64_t t = 0; t < args.length; ++t, from = state) {
      if (args.restart != nullptr && args.restart[row * args.length + t]) from = nullptr;
      const S delta = args.delta[at.number * args.length + t];
      const S decay = std::exp(delta * args.A[head]);
      const S* B = args.B + (at.group * args.length + t) * N;
      const S* C = args.C + (at.group * args.length + t) * N;
      const T* x = static_cast<const T*>(args.x) + at.x + t * at.x_stride;
      T* y = static_cast<T*>(out.y) + at.x + t * at.x_stride;
      for (int64_t p = 0; p < P; ++p) {
        const S u = Widened(x[p]), D_of_row = args.D != nullptr ? args.D[head * P + p] : S{0};
        const S sum = StepRow(decay, from != nullptr ? from + p * N : nullptr, delta * u, B, C,
                              state + p * N, N);
        y[p] = FromDouble<T>(static_cast<double>(sum + D_of_row * u));
      }
    }
  }
}
void ForwardF32(const SsdArgs<float>& args, const SsdOutputs<float>& out, int64_t row,
                int64_t begin, int64_t end) {
  Forward<float, float>(args, out, row, begin, end);
}
void ForwardBF16(const SsdArgs<float>& args, const SsdOutputs<float>& out, int64_t row,
                 int64_t begin, int64_t end) {
  Forward<float, BFloat16>(args, out, row, begin, end);
}
void ForwardF64(const SsdArgs<double>& args, const SsdOutputs<double>& out, int64_t row,
                int64_t begin, int64_t end) {
  Forward<double, double>(args, out, row, begin, end);
}
void StepsF32(const SsdArgs<float>& args, const SsdOutputs<float>& out, int64_t row, int64_t begin,
              int64_t end) {
  Steps<float, float>(args, out, row, begin, end);
}
void StepsBF16(const SsdArgs<float>& args, const SsdOutputs<float>& out, int64_t row, int64_t begin,
               int64_t end) {
  Steps<float, BFloat16>(args, out, row, begin, end);
}
void StepsF64(const SsdArgs<double>& args, const SsdOutputs<double>& out, int64_t row,
              int64_t begin, int64_t end) {
  Steps<double, double>(args, out, row, begin, end);
}

}  // namespace HWY_NAMESPACE
}  // namespace ssd_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace ssd_internal {

HWY_EXPORT(ForwardF32);
HWY_EXPORT(ForwardBF16);
HWY_EXPORT(ForwardF64);
HWY_EXPORT(StepsF32);
HWY_EXPORT(StepsBF16);
HWY_EXPORT(StepsF64);

void ForwardF32(const SsdArgs<float>& args, const SsdOutputs<float>& out, int64_t row,
                int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(ForwardF32)(args, out, row, begin, end);
}
void ForwardBF16(const SsdArgs<float>& args, const SsdOutputs<float>& out, int64_t row,
                 int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(ForwardBF16)(args, out, row, begin, end);
}
void ForwardF64(const SsdArgs<double>& args, const SsdOutputs<double>& out, int64_t row,
                int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(ForwardF64)(args, out, row, begin, end);
}
void StepsF32(const SsdArgs<float>& args, const SsdOutputs<float>& out, int64_t row, int64_t begin,
              int64_t end) {
  HWY_DYNAMIC_DISPATCH(StepsF32)(args, out, row, begin, end);
}
void StepsBF16(const SsdArgs<float>& args, const SsdOutputs<float>& out, int64_t row, int64_t begin,
               int64_t end) {
  HWY_DYNAMIC_DISPATCH(StepsBF16)(args, out, row, begin, end);
}
void StepsF64(const SsdArgs<double>& args, const SsdOutputs<double>& out, int64_t row,
              int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(StepsF64)(args, out, row, begin, end);
}

}  // namespace ssd_internal
}  // namespace residual
#endif  // HWY_ONCE
