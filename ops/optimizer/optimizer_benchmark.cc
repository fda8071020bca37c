#include "benchmark/benchmark.h"
#include "ops/optimizer/optimizer.h"
#include "tensor/testing/bytes_moved.h"

namespace residual {
namespace {

// Bytes read and written per second.
void BM_Adam(benchmark::State& state) {
  const int64_t n = state.range(0);
  Tensor p = Tensor::Full({n}, 1), m = Tensor::Zeros({n}), v = Tensor::Zeros({n});
  const Tensor g = Tensor::Full({n}, 1e-3, static_cast<DType>(state.range(1)));
  AdamOptions options;
  options.weight_decay = 0.1;
  for (auto _ : state) AdamStep(p, m, v, g, options);
  ReportBytes(state, n * (24 + SizeOf(g.dtype())));
}
BENCHMARK(BM_Adam)
    ->Args({8, static_cast<int>(kF32)})
    ->Args({1 << 24, static_cast<int>(kF32)})
    ->Args({1 << 24, static_cast<int>(kBF16)})
    ->UseRealTime();

void BM_Sgd(benchmark::State& state) {
  const int64_t n = state.range(0);
  Tensor p = Tensor::Full({n}, 1), buffer;
  const Tensor g = Tensor::Full({n}, 1e-3);
  SgdOptions options;
  options.momentum = 0.9;
  for (auto _ : state) SgdStep(p, buffer, g, options);
  ReportBytes(state, n * 20);
}
BENCHMARK(BM_Sgd)->Arg(8)->Arg(1 << 24)->UseRealTime();

void BM_GlobalNorm(benchmark::State& state) {
  const Tensor g = Tensor::Full({state.range(0)}, 1e-3);
  for (auto _ : state) benchmark::DoNotOptimize(GlobalNorm({g}));
  ReportBytes(state, g.bytes());
}
BENCHMARK(BM_GlobalNorm)->Arg(8)->Arg(1 << 24)->UseRealTime();

void BM_FirstNonFinite(benchmark::State& state) {
  const Tensor x = Tensor::Full({state.range(0)}, 1, static_cast<DType>(state.range(1)));
  for (auto _ : state) benchmark::DoNotOptimize(FirstNonFinite(x));
  ReportBytes(state, x.bytes());
}
BENCHMARK(BM_FirstNonFinite)
    ->Args({8, static_cast<int>(kF32)})
    ->Args({1 << 24, static_cast<int>(kF32)})
    ->Args({1 << 24, static_cast<int>(kBF16)})
    ->UseRealTime();

}  // namespace
}  // namespace residual
