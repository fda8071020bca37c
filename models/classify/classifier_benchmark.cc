#include "benchmark/benchmark.h"
#include "models/classify/classifier.h"
#include "tensor/base/check.h"

namespace residual {
namespace {

// A classifier of 4 layers, H = 128, N = 64 that reads one position after another, as a recurrence.
// Arguments: rows, 0 for S4D and 1 for S4. "positions": steps a second, each of all rows.
void BM_InSteps(benchmark::State& state) {
  ClassifierConfig config;
  config.channels = 1;
  config.n_classes = 10;
  config.body.d_model = 128;
  config.body.d_state = 64;
  config.body.n_ctx = 784;
  config.body.blocks.assign(4, {state.range(1) == 0 ? "s4d" : "s4"});
  config.body.positions = Positions::kNone;
  auto model = SequenceClassifier::Make(config);
  RESIDUAL_CHECK(model.ok()) << model.status().message();
  Initialize(**model, 1);
  const int64_t positions = 200;
  const Tensor x = Tensor::Full({state.range(0), positions, 1}, 0.5);
  size_t bytes = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize((*model)->ForwardInChunks(x, 1, &bytes).raw_data());
  }
  state.counters["positions"] = benchmark::Counter(static_cast<double>(positions),
                                                   benchmark::Counter::kIsIterationInvariantRate);
  state.counters["state_bytes"] = static_cast<double>(bytes);
}
BENCHMARK(BM_InSteps)->Args({1, 0})->Args({50, 0})->Args({1, 1})->UseRealTime();

}  // namespace
}  // namespace residual
