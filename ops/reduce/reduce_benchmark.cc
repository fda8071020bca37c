#include "benchmark/benchmark.h"
#include "ops/reduce/reduce.h"
#include "tensor/testing/bytes_moved.h"

namespace residual {
namespace {

constexpr int kFloat = static_cast<int>(kF32), kBFloat = static_cast<int>(kBF16);

// Bytes read per second. Arguments: rows, columns, dtype.
template <class Op>
void Measure(benchmark::State& state, Op op) {
  const Tensor x =
      Tensor::Full({state.range(0), state.range(1)}, 0.5, static_cast<DType>(state.range(2)));
  for (auto _ : state) benchmark::DoNotOptimize(op(x).raw_data());
  ReportBytes(state, x.bytes());
}

void Sizes(benchmark::internal::Benchmark* b) {
  b->Args({1024, 768, kFloat})->Args({1024, 768, kBFloat})->Args({16384, 4096, kFloat});
  b->Args({2, 4, kFloat})->UseRealTime();
}

void BM_SumRows(benchmark::State& state) {
  Measure(state, [](const Tensor& x) { return Sum(x, 1); });
}
BENCHMARK(BM_SumRows)->Apply(Sizes);

void BM_SumColumns(benchmark::State& state) {
  Measure(state, [](const Tensor& x) { return Sum(x, 0); });
}
BENCHMARK(BM_SumColumns)->Apply(Sizes);

void BM_MaxRows(benchmark::State& state) {
  Measure(state, [](const Tensor& x) { return Max(x, 1); });
}
BENCHMARK(BM_MaxRows)->Apply(Sizes);

void BM_MaxColumns(benchmark::State& state) {
  Measure(state, [](const Tensor& x) { return Max(x, 0); });
}
BENCHMARK(BM_MaxColumns)->Apply(Sizes);

void BM_SumAll(benchmark::State& state) {
  Measure(state, [](const Tensor& x) { return SumAll(x); });
}
BENCHMARK(BM_SumAll)->Apply(Sizes);

void BM_Norm2(benchmark::State& state) {
  Measure(state, [](const Tensor& x) { return Norm2(x); });
}
BENCHMARK(BM_Norm2)->Apply(Sizes);

}  // namespace
}  // namespace residual
