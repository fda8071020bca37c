// A whole model: reading a prompt, and making tokens one by one after one of some length.

#include "benchmark/benchmark.h"
#include "models/transformer/transformer.h"

namespace residual {
namespace {

// A quarter of GPT-2 small in every direction.
std::unique_ptr<ResidualModel> Model() {
  TransformerConfig c;
  c.d_model = 192;
  c.n_ctx = 4096;
  c.d_vocab = 1024;
  c.blocks.assign(4, {"attn", "mlp"});
  c.n_heads = 6;
  c.d_head = 32;
  c.d_mlp = 768;
  auto model = BuildTransformer(c);
  Initialize(*model, 1);
  return model;
}

void BM_Prefill(benchmark::State& state) {
  const auto model = Model();
  const Tensor tokens = Tensor::Zeros({state.range(0), state.range(1)}, kI64);
  for (auto _ : state) {
    ModelState past = model->NewState(tokens.dim(0));
    benchmark::DoNotOptimize(model->NextLogits({tokens}, &past).raw_data());
  }
  state.SetItemsProcessed(state.iterations() * tokens.elements());
}
BENCHMARK(BM_Prefill)->Args({1, 128})->Args({1, 1024})->Args({8, 128})->UseRealTime();

// Tokens per second of all rows, from `past` tokens on.
void BM_Decode(benchmark::State& state) {
  const auto model = Model();
  const int64_t batch = state.range(0), past_length = state.range(1);
  const Tensor token = Tensor::Zeros({batch, 1}, kI64);
  const auto begin = [&] {
    ModelState past = model->NewState(batch);
    model->NextLogits({Tensor::Zeros({batch, past_length}, kI64)}, &past);
    model->NextLogits({token}, &past);
    return past;
  };
  ModelState past = begin();
  for (auto _ : state) {
    if (past.length() >= past_length + 500) {
      state.PauseTiming();
      past = begin();
      state.ResumeTiming();
    }
    benchmark::DoNotOptimize(model->NextLogits({token}, &past).raw_data());
  }
  state.SetItemsProcessed(state.iterations() * batch);
}
BENCHMARK(BM_Decode)->Args({1, 16})->Args({1, 1024})->Args({8, 16})->Args({8, 1024})->UseRealTime();

// With every hook point read: what looking costs.
void BM_PrefillLookingAt(benchmark::State& state, const char* names) {
  const auto model = Model();
  const Tensor tokens = Tensor::Zeros({1, 128}, kI64);
  Hooks hooks;
  hooks.Read(names, [](absl::string_view, const Tensor&) {});
  for (auto _ : state) {
    benchmark::DoNotOptimize(model->Forward({tokens}, nullptr, &hooks).raw_data());
  }
  state.SetItemsProcessed(state.iterations() * tokens.elements());
}
BENCHMARK_CAPTURE(BM_PrefillLookingAt, Stream, "*hook_resid_pre")->UseRealTime();
BENCHMARK_CAPTURE(BM_PrefillLookingAt, Patterns, "*hook_pattern")->UseRealTime();
BENCHMARK_CAPTURE(BM_PrefillLookingAt, Everything, "*")->UseRealTime();

}  // namespace
}  // namespace residual
