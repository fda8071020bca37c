#include "benchmark/benchmark.h"
#include "ops/scan/selective_scan.h"
#include "tensor/autograd/tape.h"
#include "tensor/testing/bytes_moved.h"

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

// Arguments: batch, length, dim, state, dtype.
SelectiveScanInputs Inputs(const benchmark::State& s) {
  const int64_t batch = s.range(0), length = s.range(1), dim = s.range(2), state = s.range(3);
  const DType dtype = static_cast<DType>(s.range(4));
  SelectiveScanInputs in;
  in.u = Spread({batch, length, dim}, -2, 2, dtype);
  in.delta = Spread({batch, length, dim}, -6, -1);
  in.A = Spread({dim, state}, -static_cast<double>(state), -1);
  in.B = Spread({batch, length, state}, -1, 1, dtype);
  in.C = Spread({batch, length, state}, -1, 1, dtype);
  in.D = Spread({dim}, 0, 1);
  in.z = Spread({batch, length, dim}, -3, 3, dtype);
  in.softplus = true;
  return in;
}

void Report(benchmark::State& state) {
  const double updates = static_cast<double>(state.range(0) * state.range(1)) *
                         static_cast<double>(state.range(2) * state.range(3));
  state.counters["updates/s"] = benchmark::Counter(
      updates, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
}

void BM_SelectiveScan(benchmark::State& state) {
  const SelectiveScanInputs in = Inputs(state);
  for (auto _ : state) benchmark::DoNotOptimize(SelectiveScan(in).y.raw_data());
  Report(state);
}

void BM_SelectiveScanBothWays(benchmark::State& state) {
  SelectiveScanInputs in = Inputs(state);
  for (auto _ : state) {
    Tape tape;
    for (Tensor* x : {&in.u, &in.delta, &in.A, &in.B, &in.C, &in.D, &in.z}) tape.Watch(*x);
    const Tensor y = SelectiveScan(in).y;
    benchmark::DoNotOptimize(tape.Backward({y}, {in.z}, {}).Find(in.u).raw_data());
  }
  Report(state);
}

// From a state, which is read and written, as A is read.
void BM_SelectiveScanStep(benchmark::State& state) {
  SelectiveScanInputs in = Inputs(state);
  in.initial_state = Spread({state.range(0), state.range(2), state.range(3)}, -1, 1);
  for (auto _ : state) benchmark::DoNotOptimize(SelectiveScan(in).y.raw_data());
  ReportBytes(state, 3.0 * static_cast<double>(in.initial_state.bytes()));
}

constexpr int kFloat = static_cast<int>(kF32), kBFloat = static_cast<int>(kBF16);

void Shapes(benchmark::internal::Benchmark* b) {
  b->Args({1, 512, 1536, 16, kFloat})->Args({1, 2048, 1536, 16, kFloat});
  b->Args({1, 2048, 1536, 16, kBFloat})->Args({8, 256, 128, 16, kFloat});
  b->UseRealTime();
}
BENCHMARK(BM_SelectiveScan)->Apply(Shapes)->Args({1, 8192, 1536, 16, kFloat});
BENCHMARK(BM_SelectiveScanBothWays)->Apply(Shapes);
BENCHMARK(BM_SelectiveScanStep)->Args({1, 1, 1536, 16, kFloat})->UseRealTime();

}  // namespace
}  // namespace residual
