#include "benchmark/benchmark.h"
#include "ops/matmul/matmul.h"
#include "tensor/testing/limits.h"

namespace residual {
namespace {

Tensor SomeNumbers(const Shape& shape, DType dtype) {
  Tensor x = Tensor::Uninitialized(shape);
  float* values = x.mutable_data<float>();
  for (int64_t i = 0; i < x.elements(); ++i) {
    values[i] = static_cast<float>(i * 2654435761 % 2001) / 1000 - 1;
  }
  return ConvertTo(x, dtype);
}

// M, K, N; bits of `form`: a is transposed, b is transposed. Prints the share of the multiply-adds
// (for bf16: of the dot products) this machine can do. mixed: bf16 products of f32 operands.
void BM_MatMul(benchmark::State& state, DType dtype, bool mixed = false) {
  const int64_t M = state.range(0), K = state.range(1), N = state.range(2), form = state.range(3);
  MatMulOptions options;
  options.transpose_a = form & 1;
  options.transpose_b = form & 2;
  options.bf16_products = mixed;
  const Tensor a = SomeNumbers(options.transpose_a ? Shape{K, M} : Shape{M, K}, dtype);
  const Tensor b = SomeNumbers(options.transpose_b ? Shape{N, K} : Shape{K, N}, dtype);
  for (auto _ : state) benchmark::DoNotOptimize(MatMul(a, b, options).raw_data());
  const double operations = 2.0 * M * K * N * state.iterations();
  state.counters["FLOP"] = benchmark::Counter(operations, benchmark::Counter::kIsRate);
  state.counters["of_peak"] = benchmark::Counter(operations / PeakFlops(mixed ? kBF16 : dtype),
                                                 benchmark::Counter::kIsRate);
  state.SetBytesProcessed(state.iterations() * b.bytes());
}

void Shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"M", "K", "N", "form"})->UseRealTime();
  for (int64_t n : {512, 1024, 2048}) benchmark->Args({n, n, n, 0});
  for (int64_t form : {0, 2}) {  // GPT-2's MLP, with weights as it stores them and as PyTorch does
    for (int64_t M : {1, 16, 128, 1024}) benchmark->Args({M, 768, 3072, form});
  }
  benchmark->Args({1024, 768, 1024, 1});  // the gradient of weights
  benchmark->Args({128, 768, 50257, 2});
  benchmark->Args({2048, 64, 256, 0});
  benchmark->Args({2, 2, 2, 0});
}
BENCHMARK_CAPTURE(BM_MatMul, f32, kF32)->Apply(Shapes);
BENCHMARK_CAPTURE(BM_MatMul, bf16, kBF16)->Apply(Shapes);
BENCHMARK_CAPTURE(BM_MatMul, f32_as_bf16, kF32, true)->Apply(Shapes);
BENCHMARK_CAPTURE(BM_MatMul, f64, kF64)->UseRealTime()->Args({512, 512, 512, 0});

// The superposition models: many instances of a tiny product.
void BM_Batched(benchmark::State& state) {
  const int64_t batch = state.range(0), M = state.range(1), K = state.range(2), N = state.range(3);
  const Tensor a = SomeNumbers({batch, M, K}, kF32), b = SomeNumbers({batch, K, N}, kF32);
  for (auto _ : state) benchmark::DoNotOptimize(MatMul(a, b).raw_data());
  state.SetBytesProcessed(state.iterations() * (a.bytes() + b.bytes() + batch * M * N * 4));
}
BENCHMARK(BM_Batched)
    ->Args({512, 1024, 20, 5})
    ->Args({512, 1024, 5, 20})
    ->Args({10, 1024, 5, 2})
    ->Args({20, 1024, 100, 20})
    ->UseRealTime();

// A linear layer with its bias and activation, against the product alone.
void BM_Linear(benchmark::State& state) {
  const Tensor a = SomeNumbers({1024, 768}, kF32), b = SomeNumbers({768, 3072}, kF32);
  MatMulOptions options;
  options.bias = Tensor::Zeros({3072});
  options.activation = static_cast<Activation>(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(MatMul(a, b, options).raw_data());
}
BENCHMARK(BM_Linear)
    ->Arg(static_cast<int>(Activation::kNone))
    ->Arg(static_cast<int>(Activation::kGelu))
    ->Arg(static_cast<int>(Activation::kGeluTanh))
    ->UseRealTime();

}  // namespace
}  // namespace residual
