#include "benchmark/benchmark.h"
#include "ops/quantized/quantized.h"
#include "tensor/testing/limits.h"

namespace residual {
namespace {

Tensor SomeNumbers(const Shape& shape) {
  Tensor x = Tensor::Uninitialized(shape);
  float* values = x.mutable_data<float>();
  for (int64_t i = 0; i < x.elements(); ++i) {
    values[i] = static_cast<float>(i * 2654435761 % 2001) / 1000 - 1;
  }
  return x;
}

// M, K, N. So many matrices in turn that they come from memory, as a model's do. Prints the share
// of the bytes this machine can read.
void BM_QuantizedMatMul(benchmark::State& state) {
  const int64_t M = state.range(0), K = state.range(1), N = state.range(2);
  constexpr int64_t kFarAway = int64_t{96} << 20;
  const Tensor x = SomeNumbers({M, K}), w = SomeNumbers({N, K});
  std::vector<QuantizedMatrix> matrices;
  size_t bytes = 0;
  for (int64_t total = 0; total < kFarAway; total += static_cast<int64_t>(bytes)) {
    QuantizedMatrix& matrix = matrices.emplace_back(QuantizedMatrix::Uninitialized(N, K));
    if (!QuantizeRows(w, 0, matrix).ok()) return state.SkipWithError("not finite");
    bytes = matrix.bytes();
  }
  size_t i = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(QuantizedMatMul(x, matrices[i++ % matrices.size()]).raw_data());
  }
  state.SetBytesProcessed(state.iterations() * bytes);
  state.counters["of_read"] =
      benchmark::Counter(bytes * state.iterations() / PeakReadBytes(), benchmark::Counter::kIsRate);
}
BENCHMARK(BM_QuantizedMatMul)
    ->ArgNames({"M", "K", "N"})
    ->UseRealTime()
    ->Args({1, 768, 768})
    ->Args({1, 768, 3072})
    ->Args({1, 3072, 768})
    ->Args({1, 768, 50257})
    ->Args({4, 768, 3072})
    ->Args({128, 768, 3072});

// K, N: of a published matrix [K, N], or of its transpose. Prints the bytes of f32 it reads.
void BM_Quantize(benchmark::State& state) {
  const int64_t K = state.range(0), N = state.range(1);
  const bool columns = state.range(2) != 0;
  const Tensor w = columns ? SomeNumbers({K, N}) : SomeNumbers({N, K});
  QuantizedMatrix matrix = QuantizedMatrix::Uninitialized(N, K);
  for (auto _ : state) {
    if (!(columns ? QuantizeColumns(w, 0, matrix) : QuantizeRows(w, 0, matrix)).ok()) {
      return state.SkipWithError("not finite");
    }
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(w.bytes()));
}
BENCHMARK(BM_Quantize)
    ->ArgNames({"K", "N", "columns"})
    ->UseRealTime()
    ->Args({768, 3072, 0})
    ->Args({768, 3072, 1})
    ->Args({3072, 768, 1});

}  // namespace
}  // namespace residual
