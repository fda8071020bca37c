#include "models/text/pipeline.h"

#include <deque>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

// Most words of a text occurred before: their ids are copied from where they stand.
class CachedEncoder {
 public:
  CachedEncoder(const TokenModel& model, std::vector<int32_t>* ids) : model_(model), ids_(*ids) {}

  // The bytes of `piece` must stay where they are until the encoder is gone.
  void Encode(absl::string_view piece) {
    if (piece.size() > kLongestCached) return model_.Encode(piece, &ids_);
    if (seen_.size() > kMostCached) seen_.clear();
    const auto [it, is_new] = seen_.try_emplace(piece, Stretch{ids_.size(), 0});
    if (is_new) {
      model_.Encode(piece, &ids_);
      it->second.count = ids_.size() - it->second.begin;
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
  absl::flat_hash_map<absl::string_view, Stretch> seen_;
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
    std::deque<std::string> rewritten;  // alive as long as the encoder
    CachedEncoder encoder(*parts_.model, &ids);
    auto plain = [&](absl::string_view part, std::optional<int32_t> id) {
      if (id) return ids.push_back(*id);
      if (parts_.add_prefix_space && part[0] != ' ') {
        part = rewritten.emplace_back(absl::StrCat(" ", part));
      }
      parts_.pre_tokenizer->Split(part, [&](absl::string_view piece) { encoder.Encode(piece); });
    };
    in_text_.Split(text, [&](absl::string_view part, std::optional<int32_t> id) {
      if (id) return ids.push_back(*id);
      if (parts_.normalizer) part = rewritten.emplace_back(parts_.normalizer->Normalize(part));
      in_normalized_.Split(part, plain);
    });
    return ids;
  }

  std::string Decode(absl::Span<const int32_t> ids) const override {
    std::string text;
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
