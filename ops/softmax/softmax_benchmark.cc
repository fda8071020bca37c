#include "benchmark/benchmark.h"
#include "ops/softmax/softmax.h"
#include "tensor/autograd/tape.h"
#include "tensor/testing/bytes_moved.h"

namespace residual {
namespace {

constexpr int kFloat = static_cast<int>(kF32), kBFloat = static_cast<int>(kBF16);

// Numbers between -4 and 4; arguments: rows, columns, dtype.
Tensor Operand(const benchmark::State& state) {
  Tensor x = Tensor::Uninitialized({state.range(0), state.range(1)});
  for (int64_t i = 0; i < x.elements(); ++i) {
    x.mutable_data<float>()[i] = static_cast<float>(i * 2654435761 % 8001) / 1000 - 4;
  }
  return ConvertTo(x, static_cast<DType>(state.range(2)));
}

// Bytes read and written per second.
template <class Op>
void Forward(benchmark::State& state, Op op) {
  const Tensor x = Operand(state);
  for (auto _ : state) benchmark::DoNotOptimize(op(x).raw_data());
  ReportBytes(state, 2 * x.bytes());
}

// x, y and dy are read, y and dx are written.
template <class Op>
void ForwardAndBackward(benchmark::State& state, Op op) {
  Tensor x = Operand(state);
  const Tensor dy = x.Clone();
  for (auto _ : state) {
    Tape tape;
    tape.Watch(x);
    const Tensor y = op(x);
    benchmark::DoNotOptimize(tape.Backward({y}, {dy}, {}).Find(x).raw_data());
  }
  ReportBytes(state, 5 * x.bytes());
}

void Sizes(benchmark::internal::Benchmark* b) {
  b->Args({1024, 768, kFloat})->Args({1024, 768, kBFloat})->Args({8192, 768, kFloat});
  b->Args({12 * 1024, 1024, kFloat})->Args({4096, 65, kFloat})->Args({1, 8, kFloat});
  b->UseRealTime();
}

void BM_Softmax(benchmark::State& state) { Forward(state, Softmax); }
BENCHMARK(BM_Softmax)->Apply(Sizes);

void BM_LogSoftmax(benchmark::State& state) { Forward(state, LogSoftmax); }
BENCHMARK(BM_LogSoftmax)->Apply(Sizes);

void BM_SoftmaxBothWays(benchmark::State& state) { ForwardAndBackward(state, Softmax); }
BENCHMARK(BM_SoftmaxBothWays)->Apply(Sizes);

void BM_LogSoftmaxBothWays(benchmark::State& state) { ForwardAndBackward(state, LogSoftmax); }
BENCHMARK(BM_LogSoftmaxBothWays)->Apply(Sizes);

}  // namespace
}  // namespace residual
