#include "models/text/sentence_piece/processor.h"

#include "sentencepiece_processor.h"

namespace residual {
namespace {

// Until 0.2.2 the library gives a user-defined symbol ("[CLS]") of n characters the score n m -
// 0.1, where m is the highest log-probability of a piece, which lets likely pieces win over the
// symbol; from 0.2.3 on the score is 0.1 (n - 1), which always wins. A piece of score 0.1 that no
// text holds (spaces in a text are U+2581) makes m = 0.1 and both rules one. It has the id after
// the last.
std::string WithBestPiece(const std::string& model) {
  const char text[] = " \x01 never \x01 ";
  const float score = 0.1F;
  std::string piece = "\x0A";  // field 1, bytes: its text
  piece += static_cast<char>(sizeof(text) - 1);
  piece += text;
  piece += "\x15";  // field 2, 32 bits: its score
  piece.append(reinterpret_cast<const char*>(&score), sizeof(score));
  // Field 1 of the model, once more: the list goes on.
  return model + "\x0A" + static_cast<char>(piece.size()) + piece;
}

class Model : public SentencePieceModel {
 public:
  sentencepiece::util::Status Load(const std::string& bytes) {
    return processor_.LoadFromSerializedProto(WithBestPiece(bytes));
  }

  std::vector<int> Encode(std::string_view text) const override {
    std::vector<int> ids;
    // It fails only where no model is loaded.
    processor_.Encode(text, &ids).IgnoreError();
    return ids;
  }
  std::string Decode(const std::vector<int>& ids) const override {
    std::string text;
    processor_.Decode(ids, &text).IgnoreError();
    return text;
  }
  int size() const override { return processor_.GetPieceSize() - 1; }
  std::string Piece(int id) const override { return processor_.IdToPiece(id); }
  bool IsByte(int id) const override { return processor_.IsByte(id); }
  bool IsSpecial(int id) const override {
    return processor_.IsControl(id) || processor_.IsUnknown(id);
  }

 private:
  sentencepiece::SentencePieceProcessor processor_;
};

}  // namespace

std::unique_ptr<SentencePieceModel> SentencePieceModel::Load(const std::string& bytes,
                                                             std::string* error) {
  auto model = std::make_unique<Model>();
  const sentencepiece::util::Status status = model->Load(bytes);
  if (status.ok()) return model;
  *error = status.message();
  return nullptr;
}

}  // namespace residual
