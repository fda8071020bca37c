#include "benchmark/benchmark.h"
#include "ops/ssm_recurrence/ssm_recurrence.h"

namespace residual {
namespace {

// Arguments: channels, pairs of modes, positions (1: a step of generation), rows; diagonal plus
// rank one.
void BM_Recurrence(benchmark::State& state) {
  const int64_t H = state.range(0), N = state.range(1), length = state.range(2);
  const int64_t batch = state.range(3);
  Tensor Lambda = Tensor::Uninitialized({N, 2});
  for (int64_t n = 0; n < N; ++n) {
    Lambda.mutable_data<float>()[2 * n] = -0.5f;
    Lambda.mutable_data<float>()[2 * n + 1] = 3.14159f * static_cast<float>(n);
  }
  const Tensor B = Tensor::Full({N, 2}, 0.5), P = Tensor::Full({1, N, 2}, 0.25);
  const PackedSsm ssm = Pack(DiscretizeDplr(Lambda, P, P, B, B, Tensor::Full({H}, 0.01)));
  const Tensor u = Tensor::Full({batch, length, H}, 1);
  Tensor last;
  for (auto _ : state) last = SsmRecurrence(ssm, u, last).state;
  state.counters["cells"] = benchmark::Counter(static_cast<double>(batch * H * N * length),
                                               benchmark::Counter::kIsIterationInvariantRate,
                                               benchmark::Counter::kIs1000);
}
BENCHMARK(BM_Recurrence)
    ->Args({128, 32, 1, 1})
    ->Args({128, 32, 1, 50})
    ->Args({256, 32, 1024, 1})
    ->UseRealTime();

}  // namespace
}  // namespace residual
