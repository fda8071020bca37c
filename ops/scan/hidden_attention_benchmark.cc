#include <cstdint>
#include <vector>

#include "benchmark/benchmark.h"
#include "ops/scan/hidden_attention.h"

namespace residual {
namespace {

Tensor Spread(const Shape& shape, double low, double high) {
  Tensor x = Tensor::Uninitialized(shape);
  for (int64_t i = 0; i < x.elements(); ++i) {
    const double unit = static_cast<double>(i * 2654435761 % 8001) / 8000;
    x.mutable_data<float>()[i] = static_cast<float>(low + (high - low) * unit);
  }
  return x;
}

// Arguments: length, dim, state.
SelectiveScanInputs Inputs(const benchmark::State& s) {
  const int64_t length = s.range(0), dim = s.range(1), state = s.range(2);
  SelectiveScanInputs in;
  in.u = Spread({1, length, dim}, -2, 2);
  in.delta = Spread({1, length, dim}, -6, -1);
  in.A = Spread({dim, state}, -static_cast<double>(state), -1);
  in.B = Spread({1, length, state}, -1, 1);
  in.C = Spread({1, length, state}, -1, 1);
  in.softplus = true;
  return in;
}

void BM_HiddenAttentionMean(benchmark::State& state) {
  const SelectiveScanInputs in = Inputs(state);
  for (auto _ : state) {
    benchmark::DoNotOptimize(HiddenAttentionMean(in, ChannelMean::kAbsolute).raw_data());
  }
}

void BM_HiddenAttentionOfAll(benchmark::State& state) {
  const SelectiveScanInputs in = Inputs(state);
  std::vector<int64_t> channels(state.range(1));
  for (size_t i = 0; i < channels.size(); ++i) channels[i] = static_cast<int64_t>(i);
  for (auto _ : state) benchmark::DoNotOptimize(HiddenAttention(in, channels).raw_data());
}

BENCHMARK(BM_HiddenAttentionMean)->Args({128, 1536, 16})->Args({512, 1536, 16})->UseRealTime();
BENCHMARK(BM_HiddenAttentionOfAll)->Args({128, 1536, 16})->UseRealTime();

}  // namespace
}  // namespace residual
