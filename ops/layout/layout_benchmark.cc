#include "benchmark/benchmark.h"
#include "ops/layout/layout.h"
#include "tensor/testing/bytes_moved.h"

namespace residual {
namespace {

// Bytes read and written per second.
template <class Run>
void Measure(benchmark::State& state, const Shape& shape, DType dtype, Run run) {
  const Tensor x = Tensor::Zeros(shape, dtype);
  int64_t bytes = 0;
  for (auto _ : state) {
    const Tensor y = run(x);
    benchmark::DoNotOptimize(y.raw_data());
    bytes = x.bytes() + y.bytes();
  }
  ReportBytes(state, bytes);
}

void BM_Copy(benchmark::State& state) {  // what memory allows
  Measure(state, {4096, 4096}, kF32, [](const Tensor& x) { return x.Clone(); });
}
BENCHMARK(BM_Copy)->UseRealTime();

void BM_Transpose(benchmark::State& state) {
  Measure(state, {state.range(0), state.range(1)}, static_cast<DType>(state.range(2)),
          [](const Tensor& x) { return Transpose(x, 0, 1); });
}
BENCHMARK(BM_Transpose)
    ->Args({2, 4, static_cast<int>(kF32)})
    ->Args({256, 256, static_cast<int>(kF32)})
    ->Args({1000, 1000, static_cast<int>(kF32)})
    ->Args({4096, 4096, static_cast<int>(kF32)})
    ->Args({4096, 4096, static_cast<int>(kBF16)})
    ->Args({4096, 2048, static_cast<int>(kF64)})
    ->Args({50257, 768, static_cast<int>(kF32)})
    ->UseRealTime();

void BM_PermuteHeads(benchmark::State& state) {
  Measure(state, {8, 1024, 12, 64}, kF32, [](const Tensor& x) { return Permute(x, {0, 2, 1, 3}); });
}
BENCHMARK(BM_PermuteHeads)->UseRealTime();

void BM_SliceLast(benchmark::State& state) {
  Measure(state, {8192, 768}, kF32, [](const Tensor& x) { return Slice(x, 1, 0, 384); });
}
BENCHMARK(BM_SliceLast)->UseRealTime();

void BM_ConcatLast(benchmark::State& state) {
  Measure(state, {8192, 768}, kF32, [](const Tensor& x) { return Concat({x, x}, 1); });
}
BENCHMARK(BM_ConcatLast)->UseRealTime();

void BM_Broadcast(benchmark::State& state) {
  Measure(state, {1024, 768}, kF32, [](const Tensor& x) { return BroadcastTo(x, {8, 1024, 768}); });
}
BENCHMARK(BM_Broadcast)->UseRealTime();

void BM_CastToBF16(benchmark::State& state) {
  Measure(state, {8192, 768}, kF32, [](const Tensor& x) { return Cast(x, kBF16); });
}
BENCHMARK(BM_CastToBF16)->UseRealTime();

void BM_CastFromBF16(benchmark::State& state) {
  Measure(state, {8192, 768}, kBF16, [](const Tensor& x) { return Cast(x, kF32); });
}
BENCHMARK(BM_CastFromBF16)->UseRealTime();

}  // namespace
}  // namespace residual
