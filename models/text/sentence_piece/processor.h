// The SentencePiece library behind types of the standard library alone: its header has its own
// absl::string_view, which is not Abseil's.

#ifndef RESIDUAL_MODELS_TEXT_SENTENCE_PIECE_PROCESSOR_H_
#define RESIDUAL_MODELS_TEXT_SENTENCE_PIECE_PROCESSOR_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace residual {

class SentencePieceModel {
 public:
  // Null, and `error`, if these are not the bytes of a model.
  static std::unique_ptr<SentencePieceModel> Load(const std::string& bytes, std::string* error);
  virtual ~SentencePieceModel() = default;

  virtual std::vector<int> Encode(std::string_view text) const = 0;
  virtual std::string Decode(const std::vector<int>& ids) const = 0;
  virtual int size() const = 0;
  // Of an id in [0, size).
  virtual std::string Piece(int id) const = 0;  // as the model writes it
  virtual bool IsByte(int id) const = 0;        // "<0xE2>"
  virtual bool IsSpecial(int id) const = 0;     // no text: unknown, start, end
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_SENTENCE_PIECE_PROCESSOR_H_
