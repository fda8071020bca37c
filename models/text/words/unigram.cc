#include "models/text/words/unigram.h"

#include <algorithm>
#include <array>
#include <limits>

#include "models/text/prepare/decoder.h"
#include "models/text/prepare/trie.h"
#include "models/text/prepare/unicode.h"

namespace residual {
namespace {

constexpr double kUnknownPenalty = 10;

class Unigram : public TokenModel {
 public:
  Unigram(const std::vector<UnigramToken>& vocabulary, const UnigramOptions& options)
      : options_(options) {
    byte_ids_.fill(-1);
    double least = std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < vocabulary.size(); ++i) {
      const int32_t id = static_cast<int32_t>(i);
      trie_.Add(vocabulary[i].text, id);
      scores_.push_back(vocabulary[i].log_probability);
      least = std::min(least, scores_.back());
      const int byte = ByteOfToken(vocabulary[i].text);
      if (byte >= 0) byte_ids_[byte] = id;
    }
    unknown_score_ = least - kUnknownPenalty;
    has_bytes_ =
        std::all_of(byte_ids_.begin(), byte_ids_.end(), [](int32_t id) { return id >= 0; });
  }

  void Encode(absl::string_view piece, std::vector<int32_t>* ids) const override {
    const std::vector<Node> nodes = BestWays(piece);
    // From the end: where each token begins; unknown characters in a row are one.
    struct Token {
      size_t begin, end;
      int32_t id;
    };
    std::vector<Token> tokens;
    for (size_t end = piece.size(); end > 0; end = nodes[end].begin) {
      const Node& node = nodes[end];
      if (node.id < 0 && !tokens.empty() && tokens.back().id < 0) {
        tokens.back().begin = node.begin;
      } else {
        tokens.push_back({node.begin, end, node.id});
      }
    }
    for (auto token = tokens.rbegin(); token != tokens.rend(); ++token) {
      if (token->id >= 0) {
        ids->push_back(token->id);
      } else {
        AppendUnknown(piece.substr(token->begin, token->end - token->begin), ids);
      }
    }
  }

 private:
  // The best way to cut a text up to here: its last token and where that begins.
  struct Node {
    double score = 0;
    size_t begin = kNone;
    int32_t id = -1;  // -1: an unknown character
    static constexpr size_t kNone = std::numeric_limits<size_t>::max();
  };

  std::vector<Node> BestWays(absl::string_view text) const {
    std::vector<Node> nodes(text.size() + 1);
    for (size_t begin = 0; begin < text.size();) {
      const double before = nodes[begin].score;
      const size_t one = FirstCharacter(text.substr(begin)).length;
      bool has_one = false;  // a token of just this character
      const auto offer = [&](size_t end, double score, int32_t id) {
        Node& node = nodes[end];
        if (node.begin == Node::kNone || score > node.score) node = {score, begin, id};
      };
      trie_.ForEachPrefix(text.substr(begin), [&](size_t length, int32_t id) {
        offer(begin + length, before + scores_[id], id);
        has_one |= length == one;
      });
      if (!has_one) offer(begin + one, before + unknown_score_, -1);
      begin += one;
    }
    return nodes;
  }

  void AppendUnknown(absl::string_view text, std::vector<int32_t>* ids) const {
    if (options_.byte_fallback && has_bytes_) {
      for (const char c : text) ids->push_back(byte_ids_[static_cast<uint8_t>(c)]);
    } else if (options_.unk >= 0) {
      ids->push_back(options_.unk);
    }
  }

  UnigramOptions options_;
  TokenTrie trie_;
  std::vector<double> scores_;         // by id
  std::array<int32_t, 256> byte_ids_;  // of "<0xE2>"; -1: none
  bool has_bytes_ = false;
  double unknown_score_ = 0;
};

}  // namespace

std::unique_ptr<TokenModel> MakeUnigram(const std::vector<UnigramToken>& vocabulary,
                                        const UnigramOptions& options) {
  return std::make_unique<Unigram>(vocabulary, options);
}

}  // namespace residual
