#include "models/text/bpe/bpe_trainer.h"

#include <algorithm>
#include <queue>

#include "absl/container/flat_hash_map.h"
#include "models/text/bpe/byte_level.h"
#include "models/text/prepare/pre_tokenizer.h"
#include "tensor/base/check.h"

namespace residual {
namespace {

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}
int32_t Left(uint64_t pair) { return static_cast<int32_t>(pair >> 32); }
int32_t Right(uint64_t pair) { return static_cast<int32_t>(pair & 0xFFFFFFFF); }

// A symbol of a distinct word; those of a word are linked by their places.
struct Symbol {
  int32_t id;              // -1: merged into the one before
  int32_t previous, next;  // places in the same word; -1: none
  int32_t word;
};

struct PairStatistics {
  int64_t count = 0;            // weighted; of "aaa" the pair (a, a) counts twice
  std::vector<int32_t> places;  // of the left symbol; some are out of date
};

struct Candidate {
  int64_t count;  // when it was put on the heap
  uint64_t pair;
  bool operator<(const Candidate& other) const {  // the most frequent, then the smallest on top
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

class Learner {
 public:
  explicit Learner(absl::string_view text) {
    std::vector<int32_t> id_of_byte(256);
    for (const uint8_t byte : BytesInPrintableOrder()) {
      id_of_byte[byte] = static_cast<int32_t>(learned_.tokens.size());
      ids_[std::string(1, static_cast<char>(byte))] = id_of_byte[byte];
      learned_.tokens.push_back(std::string(1, static_cast<char>(byte)));
    }
    absl::flat_hash_map<std::string, int32_t> number_of_word;
    MakeGpt2Pattern()->Split(text, true, [&](absl::string_view word, bool) {
      const int32_t n = static_cast<int32_t>(weights_.size());
      const auto [it, is_new] = number_of_word.try_emplace(std::string(word), n);
      if (!is_new) {
        ++weights_[it->second];
        return;
      }
      weights_.push_back(1);
      for (size_t i = 0; i < word.size(); ++i) {
        const int32_t place = static_cast<int32_t>(symbols_.size());
        symbols_.push_back({id_of_byte[static_cast<uint8_t>(word[i])], i > 0 ? place - 1 : -1,
                            i + 1 < word.size() ? place + 1 : -1, n});
      }
    });
    for (size_t place = 0; place < symbols_.size(); ++place) {
      CountPairAt(static_cast<int32_t>(place));
    }
    for (const auto& [pair, statistics] : pairs_) heap_.push({statistics.count, pair});
  }

  LearnedBpe Learn(int64_t vocab_size) && {
    while (static_cast<int64_t>(learned_.tokens.size()) < vocab_size && !heap_.empty()) {
      const Candidate best = heap_.top();
      heap_.pop();
      auto it = pairs_.find(best.pair);
      const int64_t count = it == pairs_.end() ? 0 : it->second.count;
      if (count < 2) continue;
      if (count != best.count) {  // counts fall without the heap being told
        if (count < best.count) heap_.push({count, best.pair});
        continue;
      }
      MergeEverywhere(best.pair);
    }
    return std::move(learned_);
  }

 private:
  // Counts the pair whose left symbol stands at `place`, if there is one.
  uint64_t CountPairAt(int32_t place) {
    const Symbol& left = symbols_[place];
    if (left.next < 0) return 0;
    const uint64_t pair = PairKey(left.id, symbols_[left.next].id);
    PairStatistics& statistics = pairs_[pair];
    statistics.count += weights_[left.word];
    statistics.places.push_back(place);
    return pair;
  }

  void UncountPairAt(int64_t place) {
    const Symbol& left = symbols_[place];
    if (left.next < 0) return;
    auto it = pairs_.find(PairKey(left.id, symbols_[left.next].id));
    if (it != pairs_.end())
      it->second.count -= weights_[left.word];  // else it is the one being merged
  }

  void MergeEverywhere(uint64_t pair) {
    const int32_t result = ResultOf(pair);
    std::vector<int32_t> places = std::move(pairs_[pair].places);
    pairs_.erase(pair);
    std::sort(places.begin(), places.end());  // "aaa" is merged from the left
    std::vector<uint64_t> grown;
    for (const int32_t place : places) {
      Symbol& left = symbols_[place];
      if (left.id != Left(pair) || left.next < 0 || symbols_[left.next].id != Right(pair)) continue;
      const int32_t merged = left.next;
      if (left.previous >= 0) UncountPairAt(left.previous);
      UncountPairAt(merged);
      left.id = result;
      left.next = symbols_[merged].next;
      symbols_[merged].id = -1;
      if (left.next >= 0) symbols_[left.next].previous = place;
      if (left.previous >= 0) grown.push_back(CountPairAt(left.previous));
      if (left.next >= 0) grown.push_back(CountPairAt(place));
    }
    std::sort(grown.begin(), grown.end());
    grown.erase(std::unique(grown.begin(), grown.end()), grown.end());
    for (const uint64_t new_pair : grown) heap_.push({pairs_[new_pair].count, new_pair});
  }

  // The id that the pair merges into. Two pairs can make the same bytes ("ab" "c", "a" "bc"): one
  // token then, and a pair that such a token brings back is no new rule.
  int32_t ResultOf(uint64_t pair) {
    std::string bytes = learned_.tokens[Left(pair)] + learned_.tokens[Right(pair)];
    const auto [it, is_new] = ids_.try_emplace(bytes, static_cast<int32_t>(learned_.tokens.size()));
    if (is_new) learned_.tokens.push_back(std::move(bytes));
    if (rules_.try_emplace(pair, it->second).second) {
      learned_.merges.emplace_back(Left(pair), Right(pair));
    }
    return it->second;
  }

  LearnedBpe learned_;
  absl::flat_hash_map<std::string, int32_t> ids_;
  absl::flat_hash_map<uint64_t, int32_t> rules_;
  std::vector<int64_t> weights_;  // how often each distinct word occurs
  std::vector<Symbol> symbols_;   // of all distinct words, one after the other
  absl::flat_hash_map<uint64_t, PairStatistics> pairs_;
  std::priority_queue<Candidate> heap_;
};

}  // namespace

LearnedBpe LearnBpe(absl::string_view text, int64_t vocab_size) {
  RESIDUAL_CHECK_LT(text.size(), size_t{1} << 31);
  return Learner(text).Learn(vocab_size);
}

}  // namespace residual
