#include "models/text/bpe/bpe.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/types/span.h"
#include "models/text/prepare/unicode.h"

namespace residual {
namespace {

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

// A piece on its way: a list of symbols linked by their places, so that a merge costs no move.
struct Symbol {
  int32_t id;              // -1: merged into the one before
  int32_t previous, next;  // places; -1: none
};

// A merge that may be made, if the two symbols are still there.
struct Candidate {
  int32_t rank, place;  // of the left symbol
  int32_t left, right, result;

  // For a heap with the lowest rank, then the leftmost, on top.
  bool operator<(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : place > other.place;
  }
};

class Bpe : public TokenModel {
 public:
  Bpe(TokenIds ids, const std::vector<BpeMerge>& merges, const BpeOptions& options)
      : options_(options), ids_(std::move(ids)) {
    auto find = [&](const std::string& text) {
      auto it = ids_.find(text);
      return it == ids_.end() ? -1 : it->second;
    };
    for (int byte = 0; byte < 256; ++byte) {
      byte_ids_[byte] = find(options_.bytes ? std::string(1, static_cast<char>(byte))
                                            : absl::StrFormat("<0x%02X>", byte));
    }
    merges_.reserve(merges.size());
    for (size_t rank = 0; rank < merges.size(); ++rank) {
      merges_[PairKey(merges[rank].left, merges[rank].right)] = {static_cast<int32_t>(rank),
                                                                 merges[rank].result};
    }
  }

  void Encode(absl::string_view piece, std::vector<int32_t>* ids) const override {
    if (options_.ignore_merges) {
      auto it = ids_.find(piece);
      if (it != ids_.end()) {
        ids->push_back(it->second);
        return;
      }
    }
    Symbols symbols;
    options_.bytes ? StartFromBytes(piece, &symbols) : StartFromCharacters(piece, &symbols);
    for (size_t i = 0; i < symbols.size(); ++i) {
      symbols[i].previous = static_cast<int32_t>(i) - 1;
      symbols[i].next = i + 1 < symbols.size() ? static_cast<int32_t>(i) + 1 : -1;
    }
    Merge(absl::MakeSpan(symbols));
    for (const Symbol& symbol : symbols) {
      if (symbol.id >= 0) ids->push_back(symbol.id);
    }
  }

 private:
  using Symbols = std::vector<Symbol>;

  void StartFromBytes(absl::string_view piece, Symbols* symbols) const {
    symbols->reserve(piece.size());
    bool last_unknown = false;
    for (const char c : piece) Add(byte_ids_[static_cast<uint8_t>(c)], &last_unknown, symbols);
  }

  void StartFromCharacters(absl::string_view piece, Symbols* symbols) const {
    bool last_unknown = false;
    while (!piece.empty()) {
      const absl::string_view c = piece.substr(0, FirstCharacter(piece).length);
      piece.remove_prefix(c.size());
      auto it = ids_.find(c);
      if (it == ids_.end() && options_.byte_fallback &&
          std::all_of(c.begin(), c.end(),
                      [&](char b) { return byte_ids_[static_cast<uint8_t>(b)] >= 0; })) {
        for (const char b : c) Add(byte_ids_[static_cast<uint8_t>(b)], &last_unknown, symbols);
      } else {
        Add(it == ids_.end() ? -1 : it->second, &last_unknown, symbols);
      }
    }
  }

  void Add(int32_t id, bool* last_unknown, Symbols* symbols) const {
    const bool unknown = id < 0;
    if (unknown) {
      if (!options_.unk || (options_.fuse_unk && *last_unknown)) return;
      id = *options_.unk;
    }
    *last_unknown = unknown;
    symbols->push_back({id, 0, 0});
  }

  void Merge(absl::Span<Symbol> symbols) const {
    std::vector<Candidate> heap;
    auto consider = [&](int32_t place) {
      const int32_t next = place < 0 ? -1 : symbols[place].next;
      if (next < 0) return false;
      const int32_t left = symbols[place].id, right = symbols[next].id;
      auto it = merges_.find(PairKey(left, right));
      if (it == merges_.end()) return false;
      heap.push_back({it->second.rank, place, left, right, it->second.result});
      return true;
    };
    for (size_t i = 0; i + 1 < symbols.size(); ++i) consider(static_cast<int32_t>(i));
    std::make_heap(heap.begin(), heap.end());
    while (!heap.empty()) {
      const Candidate best = heap.front();
      std::pop_heap(heap.begin(), heap.end());
      heap.pop_back();
      Symbol& left = symbols[best.place];
      if (left.id != best.left || left.next < 0 || symbols[left.next].id != best.right) continue;
      Symbol& right = symbols[left.next];
      left.id = best.result;
      right.id = -1;
      left.next = right.next;
      if (left.next >= 0) symbols[left.next].previous = best.place;
      if (consider(left.previous)) std::push_heap(heap.begin(), heap.end());
      if (consider(best.place)) std::push_heap(heap.begin(), heap.end());
    }
  }

  struct Rule {
    int32_t rank, result;
  };
  BpeOptions options_;
  TokenIds ids_;
  std::array<int32_t, 256> byte_ids_;  // of a byte, or of "<0xE2>"; -1: none
  absl::flat_hash_map<uint64_t, Rule> merges_;
};

}  // namespace

std::unique_ptr<TokenModel> MakeBpe(TokenIds ids, const std::vector<BpeMerge>& merges,
                                    const BpeOptions& options) {
  return std::make_unique<Bpe>(std::move(ids), merges, options);
}

}  // namespace residual
