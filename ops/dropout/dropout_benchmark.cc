#include "benchmark/benchmark.h"
#include "ops/dropout/dropout.h"
#include "tensor/autograd/tape.h"
#include "tensor/testing/bytes_moved.h"

namespace residual {
namespace {

constexpr int kFloat = static_cast<int>(kF32), kBFloat = static_cast<int>(kBF16);

// Bytes read and written per second. Arguments: rows, columns, dtype.
void BM_Dropout(benchmark::State& state) {
  const Tensor x =
      Tensor::Full({state.range(0), state.range(1)}, 0.5, static_cast<DType>(state.range(2)));
  for (auto _ : state) benchmark::DoNotOptimize(Dropout(x, 0.1, 1, 2).raw_data());
  ReportBytes(state, 2 * x.bytes());
}
BENCHMARK(BM_Dropout)
    ->Args({1024, 768, kFloat})
    ->Args({1024, 768, kBFloat})
    ->Args({8192, 768, kFloat})
    ->Args({2, 4, kFloat})
    ->UseRealTime();

void BM_ForwardAndBackward(benchmark::State& state) {
  Tensor x = Tensor::Full({state.range(0), state.range(1)}, 0.5);
  const Tensor dy = x.Clone();
  for (auto _ : state) {
    Tape tape;
    tape.Watch(x);
    const Tensor y = Dropout(x, 0.1, 1, 2);
    benchmark::DoNotOptimize(tape.Backward({y}, {dy}, {}).Find(x).raw_data());
  }
  ReportBytes(state, 4 * x.bytes());
}
BENCHMARK(BM_ForwardAndBackward)->Args({1024, 768})->Args({8192, 768})->UseRealTime();

}  // namespace
}  // namespace residual
