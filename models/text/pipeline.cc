#include "models/text/pipeline.h"

#include <mutex>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "models/text/prepare/unicode.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

// Most words of a text occurred before: their ids are copied from where they were kept.
class WordCache {
 public:
  void Encode(const TokenModel& model, absl::string_view piece, std::vector<int32_t>* ids) {
    if (piece.size() > kLongest) return model.Encode(piece, ids);
    auto it = seen_.find(piece);
    if (it == seen_.end()) {
      if (kept_.size() > kMost) {
        seen_.clear();
        kept_.clear();
      }
      const size_t begin = kept_.size();
      model.Encode(piece, &kept_);
      it = seen_.emplace(piece, Stretch{begin, kept_.size()}).first;
    }
    ids->insert(ids->end(), kept_.begin() + it->second.begin, kept_.begin() + it->second.end);
  }

 private:
  static constexpr size_t kLongest = 64;            // bytes of a piece
  static constexpr size_t kMost = size_t{1} << 20;  // ids
  struct Stretch {
    size_t begin, end;  // in kept_
  };
  std::vector<int32_t> kept_;
  absl::flat_hash_map<std::string, Stretch> seen_;
};

// A cache for each thread that encodes at a time, which the next may use.
class WordCaches {
 public:
  std::unique_ptr<WordCache> Take() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (caches_.empty()) return std::make_unique<WordCache>();
    std::unique_ptr<WordCache> cache = std::move(caches_.back());
    caches_.pop_back();
    return cache;
  }
  void GiveBack(std::unique_ptr<WordCache> cache) {
    std::lock_guard<std::mutex> lock(mutex_);
    caches_.push_back(std::move(cache));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<WordCache>> caches_;
};

class Pipeline : public Tokenizer {
 public:
  explicit Pipeline(PipelineParts parts)
      : parts_(std::move(parts)),
        in_text_(Select(parts_, false)),
        in_normalized_(Select(parts_, true)) {}

  std::vector<int32_t> Encode(absl::string_view text) const override {
    std::vector<int32_t> ids;
    ids.reserve(text.size() / 4 + 1);
    std::unique_ptr<WordCache> cache = caches_.Take();
    bool first = true;  // nothing of the text came before
    auto plain = [&](absl::string_view part, std::optional<int32_t> id) {
      if (id) {
        ids.push_back(*id);
      } else {
        parts_.pre_tokenizer->Split(part, first, [&](absl::string_view piece, bool) {
          cache->Encode(*parts_.model, piece, &ids);
        });
      }
      first = false;
    };
    in_text_.Split(text, [&](absl::string_view part, std::optional<int32_t> id) {
      if (id) {
        ids.push_back(*id);
        first = false;
      } else if (parts_.normalizer) {
        first = first && !(parts_.knows_start && DropsStart(part));
        in_normalized_.Split(parts_.normalizer->Normalize(part), plain);
      } else {
        in_normalized_.Split(part, plain);
      }
    });
    caches_.GiveBack(std::move(cache));
    return ids;
  }

  std::string Decode(absl::Span<const int32_t> ids) const override {
    std::string text;
    if (parts_.decoder) {
      std::vector<std::string> tokens;
      for (const int32_t id : ids) {
        if (Has(id)) tokens.push_back(parts_.vocabulary[id].written);
      }
      parts_.decoder->Apply(&tokens);
      for (const std::string& token : tokens) text += token;
      return text;
    }
    for (const int32_t id : ids) {
      if (Has(id)) text += parts_.vocabulary[id].text;
    }
    return text;
  }

  int64_t vocab_size() const override { return static_cast<int64_t>(parts_.vocabulary.size()); }

  std::string TokenText(int32_t id) const override {
    return Has(id) ? parts_.vocabulary[id].text : "";
  }

  bool IsSpecial(int32_t id) const override { return Has(id) && parts_.vocabulary[id].special; }

  SpecialTokens special_tokens() const override { return parts_.special_tokens; }

  absl::Status Save(const std::string& folder) const override {
    return WriteFileAtomically(JoinPath(folder, "tokenizer.json"), parts_.json);
  }

 private:
  // Whether the normalizer leaves out the first character: what comes next does then not begin the
  // text, for `tokenizers` counts in the text as it was given.
  bool DropsStart(absl::string_view text) const {
    const absl::string_view start = text.substr(0, 64);
    const absl::string_view rest = start.substr(FirstCharacter(start).length);
    return parts_.normalizer->Normalize(start) == parts_.normalizer->Normalize(rest);
  }

  static std::vector<AddedToken> Select(const PipelineParts& parts, bool normalized) {
    std::vector<AddedToken> selected;
    for (AddedToken token : parts.added) {
      if (token.normalized != normalized) continue;
      if (normalized && parts.normalizer) {
        token.content = parts.normalizer->Normalize(token.content);
      }
      if (!token.content.empty()) selected.push_back(std::move(token));
    }
    return selected;
  }

  bool Has(int32_t id) const {
    return id >= 0 && id < vocab_size() && parts_.vocabulary[id].exists;
  }

  PipelineParts parts_;
  mutable WordCaches caches_;
  AddedTokenFinder in_text_, in_normalized_;
};

}  // namespace

std::unique_ptr<Tokenizer> MakePipeline(PipelineParts parts) {
  return std::make_unique<Pipeline>(std::move(parts));
}

}  // namespace residual
