#include "benchmark/benchmark.h"
#include "ops/ssd/ssd.h"
#include "tensor/autograd/tape.h"
#include "tensor/testing/bytes_moved.h"
#include "tensor/testing/limits.h"

namespace residual {
namespace {

// Numbers between low and high.
Tensor Spread(const Shape& shape, double low, double high, DType dtype = kF32) {
  Tensor x = Tensor::Uninitialized(shape);
  for (int64_t i = 0; i < x.elements(); ++i) {
    const double unit = static_cast<double>(i * 2654435761 % 8001) / 8000;
    x.mutable_data<float>()[i] = static_cast<float>(low + (high - low) * unit);
  }
  return ConvertTo(x, dtype);
}

// Arguments: batch, length, heads, head_dim, state, dtype.
SsdInputs Inputs(const benchmark::State& s) {
  const int64_t batch = s.range(0), length = s.range(1), heads = s.range(2), head_dim = s.range(3);
  const int64_t state = s.range(4);
  const DType dtype = static_cast<DType>(s.range(5));
  SsdInputs in;
  in.x = Spread({batch, length, heads, head_dim}, -2, 2, dtype);
  in.dt = Spread({batch, length, heads}, -6, -1);
  in.A = Spread({heads}, -16, -1);
  in.B = Spread({batch, length, 1, state}, -1, 1, dtype);
  in.C = Spread({batch, length, 1, state}, -1, 1, dtype);
  in.D = Spread({heads}, 0, 1);
  in.softplus = true;
  return in;
}

// Floating-point operations of the definition: a multiply-add into the state and one out of it.
void Report(benchmark::State& state) {
  double operations = 4;
  for (int i = 0; i < 5; ++i) operations *= static_cast<double>(state.range(i));
  state.counters["of_definition"] =
      benchmark::Counter(operations, benchmark::Counter::kIsIterationInvariantRate);
}

void BM_Ssd(benchmark::State& state) {
  const SsdInputs in = Inputs(state);
  for (auto _ : state) benchmark::DoNotOptimize(Ssd(in).y.raw_data());
  Report(state);
}

void BM_SsdBothWays(benchmark::State& state) {
  SsdInputs in = Inputs(state);
  for (auto _ : state) {
    Tape tape;
    for (Tensor* x : {&in.x, &in.dt, &in.A, &in.B, &in.C, &in.D}) tape.Watch(*x);
    const Tensor y = Ssd(in).y;
    benchmark::DoNotOptimize(tape.Backward({y}, {in.x}, {}).Find(in.x).raw_data());
  }
  Report(state);
}

// From a state, which is read and written.
void BM_SsdStep(benchmark::State& state) {
  SsdInputs in = Inputs(state);
  in.initial_state =
      Spread({state.range(0), state.range(2), state.range(3), state.range(4)}, -1, 1);
  for (auto _ : state) benchmark::DoNotOptimize(Ssd(in).y.raw_data());
  ReportBytes(state, 2.0 * static_cast<double>(in.initial_state.bytes()));
}

constexpr int kFloat = static_cast<int>(kF32), kBFloat = static_cast<int>(kBF16);

// Of Mamba-2 130M: 24 heads of 64, 128 numbers a state.
void Shapes(benchmark::internal::Benchmark* b) {
  b->Args({1, 512, 24, 64, 128, kFloat})->Args({1, 2048, 24, 64, 128, kFloat});
  b->Args({1, 2048, 24, 64, 128, kBFloat})->Args({1, 2048, 24, 64, 16, kFloat})->UseRealTime();
}
BENCHMARK(BM_Ssd)->Apply(Shapes)->Args({1, 8192, 24, 64, 128, kFloat});
BENCHMARK(BM_SsdBothWays)->Apply(Shapes);
BENCHMARK(BM_SsdStep)->Args({1, 1, 24, 64, 128, kFloat})->UseRealTime();

}  // namespace
}  // namespace residual
