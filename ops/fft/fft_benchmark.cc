#include <complex>
#include <vector>

#include "benchmark/benchmark.h"
#include "ops/fft/fft_conv.h"
#include "ops/fft/real_fft.h"
#include "tensor/autograd/tape.h"

namespace residual {
namespace {

Tensor Spread(const Shape& shape, DType dtype = kF32) {
  Tensor x = Tensor::Uninitialized(shape);
  for (int64_t i = 0; i < x.elements(); ++i)
    x.mutable_data<float>()[i] = static_cast<float>(i * 2654435761 % 8001) / 4000 - 1;
  return ConvertTo(x, dtype);
}

// Arguments: batch, length, channels, dtype.
FftConvInputs Inputs(const benchmark::State& s) {
  const DType dtype = static_cast<DType>(s.range(3));
  FftConvInputs in;
  in.u = Spread({s.range(0), s.range(1), s.range(2)}, dtype);
  in.kernel = Spread({s.range(2), s.range(1)}, dtype == kF64 ? kF64 : kF32);
  return in;
}

void Report(benchmark::State& state) {
  state.counters["samples/s"] = benchmark::Counter(
      static_cast<double>(state.range(0) * state.range(1) * state.range(2)),
      benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
}

void BM_FftConv(benchmark::State& state) {
  const FftConvInputs in = Inputs(state);
  for (auto _ : state) benchmark::DoNotOptimize(FftConv(in).raw_data());
  Report(state);
}

void BM_FftConvBothWays(benchmark::State& state) {
  FftConvInputs in = Inputs(state);
  const Tensor dy = in.u.Clone();
  for (auto _ : state) {
    Tape tape;
    tape.Watch(in.u);
    tape.Watch(in.kernel);
    const Tensor y = FftConv(in);
    benchmark::DoNotOptimize(tape.Backward({y}, {dy}, {}).Find(in.u).raw_data());
  }
  Report(state);
}

constexpr int kFloat = static_cast<int>(kF32), kBFloat = static_cast<int>(kBF16);
constexpr int kDouble = static_cast<int>(kF64);

void Shapes(benchmark::internal::Benchmark* b) {
  for (const int64_t length : {1024, 4096, 16384}) b->Args({8, length, 256, kFloat});
  b->Args({1, 16384, 256, kFloat})->Args({50, 784, 128, kFloat});
  b->Args({8, 4096, 256, kBFloat})->Args({8, 1024, 256, kDouble})->UseRealTime();
}
BENCHMARK(BM_FftConv)->Apply(Shapes);
BENCHMARK(BM_FftConvBothWays)->Apply(Shapes);

// Arguments: rows, length; the last one is prime.
void BM_InverseRealFft(benchmark::State& state) {
  const int64_t rows = state.range(0), n = state.range(1);
  const std::vector<std::complex<float>> spectra(rows * (n / 2 + 1), {0.5f, 0.25f});
  std::vector<float> signals(rows * n);
  for (auto _ : state) {
    InverseRealFft(spectra.data(), signals.data(), rows, n);
    benchmark::DoNotOptimize(signals.data());
  }
  state.counters["samples/s"] = benchmark::Counter(static_cast<double>(rows * n),
                                                   benchmark::Counter::kIsIterationInvariantRate,
                                                   benchmark::Counter::kIs1000);
}
BENCHMARK(BM_InverseRealFft)
    ->Args({256, 1024})
    ->Args({256, 16384})
    ->Args({256, 16381})
    ->UseRealTime();

}  // namespace
}  // namespace residual
