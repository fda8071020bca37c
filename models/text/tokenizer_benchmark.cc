// Bytes per second of learning, encoding and decoding. Beside it, once: 10 MB of English line by
// line on one thread, JSON in and out included on our side, against `tokenizers` 0.23: GPT-2's
// vocabulary 0.8 and 4.7 s, BERT's 1.7 and 5.0 s, 512 SentencePiece-style merges 1.8 and 4.1 s, a
// unigram of 8,000 1.2 and 4.6 s. Most words are copied from where they occurred before.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "models/text/tokenizer.h"
#include "tensor/base/random.h"

namespace residual {
namespace {

// Words of 1 to 8 letters out of 20,000, the frequent ones often, as in a language.
std::string Words(int64_t bytes) {
  const Philox random(1), letters(2);
  std::string text;
  for (uint64_t i = 0; static_cast<int64_t>(text.size()) < bytes; ++i) {
    const double u = random.UniformDouble(i);
    const uint64_t word = static_cast<uint64_t>(20000 * u * u * u * u);
    const int64_t length = 1 + letters.Below(word * 16, 8);
    for (int64_t j = 1; j <= length; ++j) {
      text += static_cast<char>('a' + letters.Below(word * 16 + j, 26));
    }
    text += random.Below(i, 10) == 0 ? ".\n" : " ";
  }
  return text;
}

// One word without end: nothing repeats but pairs.
std::string OneWord(int64_t bytes) {
  const Philox random(3);
  std::string text;
  for (int64_t i = 0; i < bytes; ++i) text += static_cast<char>('a' + random.Below(i, 26));
  return text;
}

void Learn(benchmark::State& state, const std::string& text) {
  for (auto _ : state) benchmark::DoNotOptimize(TrainBpe(text, state.range(0)));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
}

void BM_LearnWords(benchmark::State& state) { Learn(state, Words(1 << 20)); }
BENCHMARK(BM_LearnWords)->Arg(1024)->Arg(8192)->Unit(benchmark::kMillisecond);

void BM_LearnOneWord(benchmark::State& state) { Learn(state, OneWord(1 << 18)); }
BENCHMARK(BM_LearnOneWord)->Arg(1024)->Arg(8192)->Unit(benchmark::kMillisecond);

void Encode(benchmark::State& state, const std::string& text) {
  const std::unique_ptr<Tokenizer> tokenizer = *TrainBpe(text, 4096);
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer->Encode(text));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
}

void BM_EncodeWords(benchmark::State& state) { Encode(state, Words(1 << 20)); }
BENCHMARK(BM_EncodeWords)->Unit(benchmark::kMillisecond);

void BM_EncodeOneWord(benchmark::State& state) { Encode(state, OneWord(1 << 18)); }
BENCHMARK(BM_EncodeOneWord)->Unit(benchmark::kMillisecond);

void BM_Decode(benchmark::State& state) {
  const std::string text = Words(1 << 20);
  const std::unique_ptr<Tokenizer> tokenizer = *TrainBpe(text, 4096);
  const std::vector<int32_t> ids = tokenizer->Encode(text);
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer->Decode(ids));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
}
BENCHMARK(BM_Decode)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace residual
