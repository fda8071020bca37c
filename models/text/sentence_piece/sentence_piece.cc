#include "models/text/sentence_piece/sentence_piece.h"

#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "models/text/prepare/decoder.h"
#include "models/text/sentence_piece/processor.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

class SentencePiece : public Tokenizer {
 public:
  SentencePiece(std::unique_ptr<SentencePieceModel> model, std::string bytes)
      : model_(std::move(model)), bytes_(std::move(bytes)) {}

  std::vector<int32_t> Encode(absl::string_view text) const override {
    return model_->Encode(std::string_view(text.data(), text.size()));
  }

  std::string Decode(absl::Span<const int32_t> ids) const override {
    std::vector<int> known;
    for (const int32_t id : ids) {
      if (Has(id)) known.push_back(id);
    }
    return model_->Decode(known);
  }

  int64_t vocab_size() const override { return model_->size(); }

  std::string TokenText(int32_t id) const override {
    if (!Has(id)) return "";
    const std::string piece = model_->Piece(id);
    if (model_->IsByte(id)) return std::string(1, static_cast<char>(ByteOfToken(piece)));
    return absl::StrReplaceAll(piece, {{"\u2581", " "}});
  }

  bool IsSpecial(int32_t id) const override { return Has(id) && model_->IsSpecial(id); }

  absl::Status Save(const std::string& folder) const override {
    return WriteFileAtomically(JoinPath(folder, "spiece.model"), bytes_);
  }

 private:
  bool Has(int32_t id) const { return id >= 0 && id < model_->size(); }

  std::unique_ptr<SentencePieceModel> model_;
  std::string bytes_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> TokenizerFromSentencePiece(std::string model,
                                                                      const std::string& source) {
  std::string error;
  auto loaded = SentencePieceModel::Load(model, &error);
  if (!loaded) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": is no SentencePiece model (", error, ")"));
  }
  return std::unique_ptr<Tokenizer>(
      std::make_unique<SentencePiece>(std::move(loaded), std::move(model)));
}

}  // namespace residual
