#include "benchmark/benchmark.h"
#include "ops/elementwise/elementwise.h"
#include "tensor/autograd/tape.h"
#include "tensor/testing/bytes_moved.h"

namespace residual {
namespace {

constexpr int kFloat = static_cast<int>(kF32), kBFloat = static_cast<int>(kBF16);

// Numbers between -4 and 4.
Tensor Numbers(const Shape& shape, DType dtype) {
  Tensor x = Tensor::Uninitialized(shape);
  for (int64_t i = 0; i < x.elements(); ++i) {
    x.mutable_data<float>()[i] = static_cast<float>(i * 2654435761 % 8001) / 1000 - 4;
  }
  return ConvertTo(x, dtype);
}

// Arguments: rows, columns, dtype.
Tensor Operand(const benchmark::State& state) {
  return Numbers({state.range(0), state.range(1)}, static_cast<DType>(state.range(2)));
}

void Sizes(benchmark::internal::Benchmark* b) {
  b->Args({1024, 768, kFloat})->Args({1024, 768, kBFloat})->Args({8192, 768, kFloat});
  b->Args({1, 8, kFloat})->UseRealTime();
}

// Bytes read and written per second.
void BM_Unary(benchmark::State& state, Tensor (*op)(const Tensor&)) {
  const Tensor x = Operand(state);
  for (auto _ : state) benchmark::DoNotOptimize(op(x).raw_data());
  ReportBytes(state, 2 * x.bytes());
}
BENCHMARK_CAPTURE(BM_Unary, exp, Exp)->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Unary, gelu, Gelu)->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Unary, gelu_tanh, GeluTanh)->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Unary, silu, Silu)->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Unary, relu, Relu)->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Unary, softplus, Softplus)->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Unary, tanh, Tanh)->Apply(Sizes);

// x is read twice and dy once, y and dx are written.
void BM_UnaryBothWays(benchmark::State& state, Tensor (*op)(const Tensor&)) {
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
BENCHMARK_CAPTURE(BM_UnaryBothWays, gelu, Gelu)->Apply(Sizes);
BENCHMARK_CAPTURE(BM_UnaryBothWays, gelu_tanh, GeluTanh)->Apply(Sizes);
BENCHMARK_CAPTURE(BM_UnaryBothWays, silu, Silu)->Apply(Sizes);

// Two operands of one shape.
void BM_Binary(benchmark::State& state, Tensor (*op)(const Tensor&, const Tensor&)) {
  const Tensor a = Operand(state), b = a.Clone();
  for (auto _ : state) benchmark::DoNotOptimize(op(a, b).raw_data());
  ReportBytes(state, 3 * a.bytes());
}
BENCHMARK_CAPTURE(BM_Binary, add, Add)->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Binary, mul, Mul)->Apply(Sizes);
BENCHMARK_CAPTURE(BM_Binary, silu_mul, SiluMul)->Apply(Sizes);

// A bias on every row.
void BM_AddBias(benchmark::State& state) {
  const Tensor a = Operand(state);
  const Tensor b = Numbers({state.range(1)}, a.dtype());
  for (auto _ : state) benchmark::DoNotOptimize(Add(a, b).raw_data());
  ReportBytes(state, 2 * a.bytes());
}
BENCHMARK(BM_AddBias)->Apply(Sizes);

}  // namespace
}  // namespace residual
