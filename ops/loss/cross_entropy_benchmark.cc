#include "benchmark/benchmark.h"
#include "ops/loss/cross_entropy.h"
#include "tensor/autograd/tape.h"
#include "tensor/testing/bytes_moved.h"

namespace residual {
namespace {

// Logits between -4 and 4.
Tensor SomeLogits(const Shape& shape, DType dtype) {
  Tensor logits = Tensor::Uninitialized(shape);
  for (int64_t i = 0; i < logits.elements(); ++i) {
    logits.mutable_data<float>()[i] = static_cast<float>(i * 2654435761 % 8001) / 1000 - 4;
  }
  return ConvertTo(logits, dtype);
}

// Bytes of logits per second.
void BM_CrossEntropy(benchmark::State& state) {
  const Tensor logits =
      SomeLogits({state.range(0), state.range(1)}, static_cast<DType>(state.range(2)));
  const Tensor targets = Tensor::Full({state.range(0)}, 1, kI64);
  for (auto _ : state) benchmark::DoNotOptimize(CrossEntropy(logits, targets).raw_data());
  ReportBytes(state, logits.bytes());
}
BENCHMARK(BM_CrossEntropy)
    ->Args({1024, 50257, static_cast<int>(kF32)})
    ->Args({1024, 50257, static_cast<int>(kBF16)})
    ->Args({2048, 65, static_cast<int>(kF32)})
    ->Args({1, 8, static_cast<int>(kF32)})
    ->UseRealTime();

void BM_ForwardAndBackward(benchmark::State& state) {
  Tensor logits = SomeLogits({state.range(0), state.range(1)}, static_cast<DType>(state.range(2)));
  const Tensor targets = Tensor::Full({state.range(0)}, 1, kI64);
  for (auto _ : state) {
    Tape tape;
    tape.Watch(logits);
    const Gradients grads = tape.Backward(CrossEntropy(logits, targets));
    benchmark::DoNotOptimize(grads.Find(logits).raw_data());
  }
  ReportBytes(state, 2 * logits.bytes());
}
BENCHMARK(BM_ForwardAndBackward)
    ->Args({1024, 50257, static_cast<int>(kF32)})
    ->Args({1024, 50257, static_cast<int>(kBF16)})
    ->Args({2048, 65, static_cast<int>(kF32)})
    ->UseRealTime();

}  // namespace
}  // namespace residual
