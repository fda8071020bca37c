#include "benchmark/benchmark.h"
#include "ops/conv/causal_conv.h"
#include "tensor/autograd/tape.h"
#include "tensor/testing/bytes_moved.h"

namespace residual {
namespace {

// Arguments: batch, length, channels, dtype; Mamba's four taps, bias and SiLU.
CausalConvInputs Inputs(const benchmark::State& s) {
  const DType dtype = static_cast<DType>(s.range(3));
  CausalConvInputs in;
  in.x = Tensor::Full({s.range(0), s.range(1), s.range(2)}, 0.7, dtype);
  in.weight = Tensor::Full({s.range(2), 4}, 0.3);
  in.bias = Tensor::Full({s.range(2)}, 0.1);
  in.initial_state = Tensor::Full({s.range(0), s.range(2), 3}, 0.2, dtype);
  in.silu = true;
  return in;
}

void BM_CausalConv(benchmark::State& state) {
  const CausalConvInputs in = Inputs(state);
  for (auto _ : state) benchmark::DoNotOptimize(CausalConv(in).y.raw_data());
  ReportBytes(state, 2 * in.x.bytes());
}

void BM_CausalConvBothWays(benchmark::State& state) {
  CausalConvInputs in = Inputs(state);
  for (auto _ : state) {
    Tape tape;
    for (Tensor* x : {&in.x, &in.weight, &in.bias}) tape.Watch(*x);
    const Tensor y = CausalConv(in).y;
    benchmark::DoNotOptimize(tape.Backward({y}, {y}, {}).Find(in.x).raw_data());
  }
  ReportBytes(state, 5 * in.x.bytes());
}

constexpr int kFloat = static_cast<int>(kF32), kBFloat = static_cast<int>(kBF16);

void Shapes(benchmark::internal::Benchmark* b) {
  b->Args({1, 2048, 1536, kFloat})->Args({1, 2048, 1536, kBFloat});
  b->Args({8, 256, 128, kFloat})->Args({1, 1, 1536, kFloat})->UseRealTime();
}
BENCHMARK(BM_CausalConv)->Apply(Shapes);
BENCHMARK(BM_CausalConvBothWays)->Apply(Shapes);

}  // namespace
}  // namespace residual
