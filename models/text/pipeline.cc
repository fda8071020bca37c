#include "models/text/pipeline.h"

#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "models/text/prepare/unicode.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

// Most words of a text occurred before: their ids are copied from where they stand.
class CachedEncoder {
 public:
  CachedEncoder(const TokenModel& model, std::vector<int32_t>* ids) : model_(model), ids_(*ids) {}

  void Encode(absl::string_view piece) {
    if (piece.size() > kLongestCached) return model_.Encode(piece, &ids_);
    if (seen_.size() > kMostCached) seen_.clear();
    const auto it = seen_.find(piece);
    if (it == seen_.end()) {
      const size_t begin = ids_.size();
      model_.Encode(piece, &ids_);
      seen_.emplace(piece, Stretch{begin, ids_.size() - begin});
    } else {
      const Stretch stretch = it->second;
      for (size_t i = 0; i < stretch.count; ++i) ids_.push_back(ids_[stretch.begin + i]);
    }
  }

 private:
  static constexpr size_t kLongestCached = 64;
  static constexpr size_t kMostCached = size_t{1} << 20;
  struct Stretch {
    size_t begin, count;
  };
  const TokenModel& model_;
  std::vector<int32_t>& ids_;
  absl::flat_hash_map<std::string, Stretch> seen_;
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
    CachedEncoder encoder(*parts_.model, &ids);
    bool first = true;  // nothing of the text came before
    auto plain = [&](absl::string_view part, std::optional<int32_t> id) {
      if (id) {
        ids.push_back(*id);
      } else {
        parts_.pre_tokenizer->Split(part, first,
                                    [&](absl::string_view piece, bool) { encoder.Encode(piece); });
      }
      first = false;
    };
    in_text_.Split(text, [&](absl::string_view part, std::optional<int32_t> id) {
      if (id) {
        ids.push_back(*id);
        first = false;
      } else if (parts_.normalizer) {
        first = first && !DropsStart(part);
        in_normalized_.Split(parts_.normalizer->Normalize(part), plain);
      } else {
        in_normalized_.Split(part, plain);
      }
    });
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

  bool Has(int32_t id) const { return id >= 0 && id < vocab_size(); }

  PipelineParts parts_;
  AddedTokenFinder in_text_, in_normalized_;
};

}  // namespace

std::unique_ptr<Tokenizer> MakePipeline(PipelineParts parts) {
  return std::make_unique<Pipeline>(std::move(parts));
}

}  // namespace residual
