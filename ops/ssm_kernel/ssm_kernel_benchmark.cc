#include "benchmark/benchmark.h"
#include "ops/ssm_kernel/ssm_kernel.h"
#include "tensor/autograd/tape.h"

namespace residual {
namespace {

// Arguments: channels, pairs of modes, length; cells a second are products of the three.
struct Operands {
  explicit Operands(const benchmark::State& state)
      : H(state.range(0)), N(state.range(1)), length(state.range(2)) {
    A = Tensor::Uninitialized({H, N, 2});
    float* to = A.mutable_data<float>();
    for (int64_t i = 0; i < H * N; ++i) {
      to[2 * i] = -0.5f;
      to[2 * i + 1] = 3.14159f * static_cast<float>(i % N);
    }
    B = Tensor::Full({H, N, 2}, 0.5);
    P = Tensor::Full({H, 1, N, 2}, 0.25);
    dt = Tensor::Full({H}, 0.01);
  }
  void Report(benchmark::State& state) const {
    state.counters["cells"] = benchmark::Counter(static_cast<double>(H * N * length),
                                                 benchmark::Counter::kIsIterationInvariantRate,
                                                 benchmark::Counter::kIs1000);
  }
  int64_t H, N, length;
  Tensor A, B, P, dt;
};

void BM_Diagonal(benchmark::State& state) {
  const Operands x(state);
  for (auto _ : state) {
    benchmark::DoNotOptimize(DiagonalSsmKernel(x.A, x.B, x.B, x.dt, x.length).raw_data());
  }
  x.Report(state);
}

void BM_DiagonalBothWays(benchmark::State& state) {
  Operands x(state);
  const Tensor dK = Tensor::Full({x.H, x.length}, 1);
  for (auto _ : state) {
    Tape tape;
    tape.Watch(x.A);
    const Tensor K = DiagonalSsmKernel(x.A, x.B, x.B, x.dt, x.length);
    benchmark::DoNotOptimize(tape.Backward({K}, {dK}, {}).Find(x.A).raw_data());
  }
  x.Report(state);
}

DplrKernelOptions Truncated() {
  DplrKernelOptions options;
  options.truncated_c = true;
  return options;
}

void BM_Dplr(benchmark::State& state) {
  const Operands x(state);
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        DplrSsmKernel(x.A, x.P, x.P, x.B, x.B, x.dt, x.length, Truncated()).raw_data());
  }
  x.Report(state);
}

void BM_DplrBothWays(benchmark::State& state) {
  Operands x(state);
  const Tensor dK = Tensor::Full({x.H, x.length}, 1);
  for (auto _ : state) {
    Tape tape;
    tape.Watch(x.A);
    const Tensor K = DplrSsmKernel(x.A, x.P, x.P, x.B, x.B, x.dt, x.length, Truncated());
    benchmark::DoNotOptimize(tape.Backward({K}, {dK}, {}).Find(x.A).raw_data());
  }
  x.Report(state);
}

void Sizes(benchmark::internal::Benchmark* b) {
  b->Args({256, 32, 1024})->Args({256, 32, 16384})->Args({1, 1, 1})->UseRealTime();
}
BENCHMARK(BM_Diagonal)->Apply(Sizes);
BENCHMARK(BM_DiagonalBothWays)->Apply(Sizes);
BENCHMARK(BM_Dplr)->Apply(Sizes);
BENCHMARK(BM_DplrBothWays)->Apply(Sizes);

}  // namespace
}  // namespace residual
