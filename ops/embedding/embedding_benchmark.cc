#include "benchmark/benchmark.h"
#include "ops/embedding/embedding.h"
#include "tensor/testing/bytes_moved.h"

namespace residual {
namespace {

// Scattered over all rows.
Tensor ScatteredIds(int64_t n, int64_t rows) {
  Tensor ids = Tensor::Uninitialized({n}, kI64);
  for (int64_t i = 0; i < n; ++i) ids.mutable_data<int64_t>()[i] = i * 2654435761 % rows;
  return ids;
}

void BM_Embedding(benchmark::State& state) {
  const Tensor table = Tensor::Zeros({state.range(0), state.range(1)});
  const Tensor ids = ScatteredIds(state.range(2), state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(Embedding(table, ids).raw_data());
  ReportBytes(state, 2 * ids.elements() * state.range(1) * 4);
}
BENCHMARK(BM_Embedding)->Args({50257, 768, 8192})->Args({50257, 768, 1})->UseRealTime();

// The gradient: the dense table is written once, the updates are read once.
void BM_ScatterAddRows(benchmark::State& state) {
  const int64_t rows = state.range(0), d = state.range(1), n = state.range(2);
  const Tensor updates = Tensor::Zeros({n, d});
  const Tensor ids = ScatteredIds(n, rows);
  for (auto _ : state) benchmark::DoNotOptimize(ScatterAddRows(rows, updates, ids).raw_data());
  ReportBytes(state, (rows + n) * d * 4);
}
BENCHMARK(BM_ScatterAddRows)
    ->Args({50257, 768, 8192})
    ->Args({512, 768, 8192})
    ->Args({2, 768, 8192})
    ->UseRealTime();

}  // namespace
}  // namespace residual
