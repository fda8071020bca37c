#include "benchmark/benchmark.h"
#include "ops/rotary/rotary.h"

namespace residual {
namespace {

Tensor UpTo(int64_t n) {
  Tensor positions = Tensor::Uninitialized({n}, kI64);
  for (int64_t i = 0; i < n; ++i) positions.mutable_data<int64_t>()[i] = i;
  return positions;
}

// Bytes read and written per second. Arguments: positions, heads, d_head, dtype, interleaved.
void BM_Rotary(benchmark::State& state) {
  const Tensor x = Tensor::Full({1, state.range(0), state.range(1), state.range(2)}, 0.5,
                                static_cast<DType>(state.range(3)));
  RotaryOptions options;
  options.style = state.range(4) != 0 ? RotaryStyle::kInterleaved : RotaryStyle::kHalf;
  const RotaryTable table = MakeRotaryTable(UpTo(state.range(0)), state.range(2), options);
  for (auto _ : state) benchmark::DoNotOptimize(Rotary(x, table).raw_data());
  state.SetBytesProcessed(state.iterations() * 2 * x.bytes());
}
BENCHMARK(BM_Rotary)
    ->Args({1024, 12, 64, static_cast<int>(kF32), 0})
    ->Args({1024, 12, 64, static_cast<int>(kF32), 1})
    ->Args({1024, 12, 64, static_cast<int>(kBF16), 0})
    ->Args({1024, 12, 64, static_cast<int>(kBF16), 1})
    ->Args({8192, 32, 128, static_cast<int>(kF32), 0})
    ->Args({1, 12, 64, static_cast<int>(kF32), 0})
    ->UseRealTime();

// Cosines and sines per second.
void BM_Table(benchmark::State& state) {
  const Tensor positions = UpTo(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(MakeRotaryTable(positions, 64, {}).cos.raw_data());
  state.SetItemsProcessed(state.iterations() * state.range(0) * 64);
}
BENCHMARK(BM_Table)->Arg(1024)->UseRealTime();

}  // namespace
}  // namespace residual
