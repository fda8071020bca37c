#include "benchmark/benchmark.h"
#include "ops/norm/norm.h"
#include "tensor/autograd/tape.h"
#include "tensor/testing/bytes_moved.h"

namespace residual {
namespace {

constexpr int kFloat = static_cast<int>(kF32), kBFloat = static_cast<int>(kBF16);

// x between -4 and 4, gain and bias; arguments: rows, columns, dtype.
struct Operands {
  Tensor x, weight, bias;
  explicit Operands(const benchmark::State& state) {
    const DType dtype = static_cast<DType>(state.range(2));
    x = Tensor::Uninitialized({state.range(0), state.range(1)});
    for (int64_t i = 0; i < x.elements(); ++i) {
      x.mutable_data<float>()[i] = static_cast<float>(i * 2654435761 % 8001) / 1000 - 4;
    }
    x = ConvertTo(x, dtype);
    weight = Tensor::Full({state.range(1)}, 0.9, dtype);
    bias = Tensor::Full({state.range(1)}, 0.1, dtype);
  }
};

Tensor Layer(const Operands& o) { return LayerNorm(o.x, o.weight, o.bias, 1e-5); }
Tensor AddLayer(const Operands& o) {  // one operand twice
  return AddLayerNorm(o.x, o.x, o.weight, o.bias, 1e-5).normalized;
}
Tensor Rms(const Operands& o) { return RmsNorm(o.x, o.weight, 1e-5); }

// x is read and y written; `more` tensors of that size besides.
template <class Op>
void Forward(benchmark::State& state, Op op, int more = 0) {
  const Operands o(state);
  for (auto _ : state) benchmark::DoNotOptimize(op(o).raw_data());
  ReportBytes(state, (2 + more) * o.x.bytes());
}

// x is read twice and dy once, y and dx are written; `more` besides.
template <class Op>
void ForwardAndBackward(benchmark::State& state, Op op, int more = 0) {
  Operands o(state);
  const Tensor dy = o.x.Clone();
  for (auto _ : state) {
    Tape tape;
    for (Tensor* x : {&o.x, &o.weight, &o.bias}) tape.Watch(*x);
    const Tensor y = op(o);
    benchmark::DoNotOptimize(tape.Backward({y}, {dy}, {}).Find(o.x).raw_data());
  }
  ReportBytes(state, (5 + more) * o.x.bytes());
}

void Sizes(benchmark::internal::Benchmark* b) {
  b->Args({1024, 768, kFloat})->Args({1024, 768, kBFloat})->Args({8192, 768, kFloat});
  b->Args({4096, 64, kFloat})->Args({1, 8, kFloat})->UseRealTime();
}

void BM_LayerNorm(benchmark::State& state) { Forward(state, Layer); }
BENCHMARK(BM_LayerNorm)->Apply(Sizes);

void BM_AddLayerNorm(benchmark::State& state) { Forward(state, AddLayer, 1); }
BENCHMARK(BM_AddLayerNorm)->Apply(Sizes);

void BM_RmsNorm(benchmark::State& state) { Forward(state, Rms); }
BENCHMARK(BM_RmsNorm)->Apply(Sizes);

void BM_LayerNormBothWays(benchmark::State& state) { ForwardAndBackward(state, Layer); }
BENCHMARK(BM_LayerNormBothWays)->Apply(Sizes);

void BM_AddLayerNormBothWays(benchmark::State& state) { ForwardAndBackward(state, AddLayer, 1); }
BENCHMARK(BM_AddLayerNormBothWays)->Apply(Sizes);

void BM_RmsNormBothWays(benchmark::State& state) { ForwardAndBackward(state, Rms); }
BENCHMARK(BM_RmsNormBothWays)->Apply(Sizes);

}  // namespace
}  // namespace residual
