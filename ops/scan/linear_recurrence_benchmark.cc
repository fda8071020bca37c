#include "benchmark/benchmark.h"
#include "ops/scan/linear_recurrence.h"
#include "tensor/autograd/tape.h"
#include "tensor/testing/bytes_moved.h"

namespace residual {
namespace {

// Arguments: batch, length, dim.
Tensor Filled(const benchmark::State& s, double value) {
  return Tensor::Full({s.range(0), s.range(1), s.range(2)}, value);
}

// a and b are read, h is written.
void BM_LinearRecurrence(benchmark::State& state) {
  const Tensor a = Filled(state, 0.5), b = Filled(state, 1);
  for (auto _ : state) benchmark::DoNotOptimize(LinearRecurrence(a, b).raw_data());
  ReportBytes(state, 3 * a.bytes());
}

// And back: a, h and dh are read, da and db written.
void BM_LinearRecurrenceBothWays(benchmark::State& state) {
  Tensor a = Filled(state, 0.5), b = Filled(state, 1);
  const Tensor dh = Filled(state, 2);
  for (auto _ : state) {
    Tape tape;
    tape.Watch(a);
    tape.Watch(b);
    const Tensor h = LinearRecurrence(a, b);
    benchmark::DoNotOptimize(tape.Backward({h}, {dh}, {}).Find(a).raw_data());
  }
  ReportBytes(state, 8 * a.bytes());
}

void Sizes(benchmark::internal::Benchmark* b) {
  b->Args({1, 2048, 1536})->Args({8, 256, 128})->Args({1, 1, 1536})->UseRealTime();
}
BENCHMARK(BM_LinearRecurrence)->Apply(Sizes);
BENCHMARK(BM_LinearRecurrenceBothWays)->Apply(Sizes);

}  // namespace
}  // namespace residual
