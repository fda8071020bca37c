#include "benchmark/benchmark.h"
#include "ops/attention/attention.h"
#include "tensor/autograd/tape.h"

namespace residual {
namespace {

constexpr int kFloat = static_cast<int>(kF32), kBFloat = static_cast<int>(kBF16);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kShort = 64, kLong = 128;  // to see that it runs
#else
constexpr int kShort = 1024, kLong = 4096;
#endif

Tensor Numbers(const Shape& shape, int seed, DType dtype) {
  Tensor x = Tensor::Uninitialized(shape);
  for (int64_t i = 0; i < x.elements(); ++i) {
    x.mutable_data<float>()[i] = static_cast<float>((i + seed) * 2654435761 % 8001) / 2000 - 2;
  }
  return ConvertTo(x, dtype);
}

struct Operands {
  Tensor q, k, v;
  AttentionOptions options;
  // Arguments: batch, heads, key/value heads, queries, keys, d_head, dtype.
  explicit Operands(const benchmark::State& state) {
    const DType dtype = static_cast<DType>(state.range(6));
    const int64_t batch = state.range(0), key = state.range(4), d_head = state.range(5);
    q = Numbers({batch, state.range(3), state.range(1), d_head}, 1, dtype);
    k = Numbers({batch, key, state.range(2), d_head}, 2, dtype);
    v = Numbers({batch, key, state.range(2), d_head}, 3, dtype);
  }
  // Multiplications and additions of the two products over the keys that are seen.
  double Flops() const {
    double seen = 0;
    for (int64_t i = 0; i < q.dim(1); ++i) {
      seen += options.causal ? k.dim(1) - q.dim(1) + i + 1 : k.dim(1);
    }
    return 4.0 * q.dim(0) * q.dim(2) * q.dim(3) * seen;
  }
};

void SetRate(benchmark::State& state, const char* name, double amount) {
  state.counters[name] = benchmark::Counter(amount, benchmark::Counter::kIsIterationInvariantRate,
                                            benchmark::Counter::kIs1000);
}

void BM_Forward(benchmark::State& state) {
  const Operands x(state);
  for (auto _ : state) benchmark::DoNotOptimize(Attention(x.q, x.k, x.v, x.options).raw_data());
  SetRate(state, "FLOP/s", x.Flops());
}
BENCHMARK(BM_Forward)
    ->Args({1, 12, 12, kShort, kShort, 64, kFloat})
    ->Args({1, 12, 12, kLong, kLong, 64, kFloat})
    ->Args({1, 12, 12, kShort, kShort, 64, kBFloat})
    ->Args({1, 12, 12, kLong, kLong, 64, kBFloat})
    ->Args({8, 12, 12, 128, 128, 64, kFloat})
    ->Args({1, 12, 12, 16, 16, 64, kFloat})
    ->Args({1, 32, 8, kShort, kShort, 128, kFloat})
    ->Args({16, 8, 8, 256, 256, 32, kFloat})
    ->Args({32, 4, 4, 64, 64, 16, kFloat})
    ->Args({32, 2, 2, 96, 96, 32, kFloat})
    ->UseRealTime();

void BM_Bidirectional(benchmark::State& state) {
  Operands x(state);
  x.options.causal = false;
  for (auto _ : state) benchmark::DoNotOptimize(Attention(x.q, x.k, x.v, x.options).raw_data());
  SetRate(state, "FLOP/s", x.Flops());
}
BENCHMARK(BM_Bidirectional)->Args({1, 12, 12, 512, 512, 64, kFloat})->UseRealTime();

// Forward and backward: 3.5 times the products of the forward pass.
void BM_ForwardAndBackward(benchmark::State& state) {
  Operands x(state);
  const Tensor dz = Numbers(x.q.shape(), 4, x.q.dtype());
  for (auto _ : state) {
    Tape tape;
    tape.Watch(x.q);
    tape.Watch(x.k);
    tape.Watch(x.v);
    const Tensor z = Attention(x.q, x.k, x.v, x.options);
    const Gradients grads = tape.Backward({z}, {dz}, {});
    benchmark::DoNotOptimize(grads.Find(x.q).raw_data());
  }
  SetRate(state, "FLOP/s", 3.5 * x.Flops());
}
BENCHMARK(BM_ForwardAndBackward)
    ->Args({1, 12, 12, kShort, kShort, 64, kFloat})
    ->Args({1, 12, 12, kLong, kLong, 64, kFloat})
    ->Args({1, 12, 12, kShort, kShort, 64, kBFloat})
    ->Args({1, 32, 8, kShort, kShort, 128, kFloat})
    ->Args({1, 8, 1, kShort, kShort, 64, kFloat})
    ->Args({16, 8, 8, 256, 256, 32, kFloat})
    ->Args({32, 4, 4, 64, 64, 16, kFloat})
    ->Args({32, 2, 2, 96, 96, 32, kFloat})
    ->UseRealTime();

// With ALiBi, a key mask and a bias: what masks cost.
void BM_Masked(benchmark::State& state) {
  Operands x(state);
  x.options.alibi_slopes = Tensor::Full({x.q.dim(2)}, 0.1);
  x.options.key_mask = Tensor::Full({1, x.k.dim(1)}, 1, kBool);
  x.options.bias = Numbers({1, x.q.dim(2), x.q.dim(1), x.k.dim(1)}, 5, x.q.dtype());
  for (auto _ : state) benchmark::DoNotOptimize(Attention(x.q, x.k, x.v, x.options).raw_data());
  SetRate(state, "FLOP/s", x.Flops());
}
BENCHMARK(BM_Masked)->Args({1, 12, 12, kShort, kShort, 64, kFloat})->UseRealTime();

// One new token: bytes of k and v per second.
void BM_Decode(benchmark::State& state) {
  const Operands x(state);
  for (auto _ : state) benchmark::DoNotOptimize(Attention(x.q, x.k, x.v, x.options).raw_data());
  SetRate(state, "bytes/s", x.k.bytes() + x.v.bytes());
}
BENCHMARK(BM_Decode)
    ->Args({1, 12, 12, 1, kShort, 64, kFloat})
    ->Args({1, 12, 12, 1, 4 * kLong, 64, kFloat})
    ->Args({1, 32, 8, 1, kLong, 128, kFloat})
    ->Args({1, 8, 1, 1, kLong, 64, kFloat})
    ->Args({1, 12, 12, 1, kShort, 64, kBFloat})
    ->UseRealTime();

// The steps that a hook can read.
void BM_Unfused(benchmark::State& state) {
  const Operands x(state);
  for (auto _ : state) {
    benchmark::DoNotOptimize(AttentionUnfused(x.q, x.k, x.v, x.options).raw_data());
  }
  SetRate(state, "FLOP/s", x.Flops());
}
BENCHMARK(BM_Unfused)
    ->Args({1, 12, 12, kShort, kShort, 64, kFloat})
    ->Args({32, 4, 4, 64, 64, 16, kFloat})
    ->UseRealTime();

}  // namespace
}  // namespace residual
