// Text to token ids and back.
//
//   RESIDUAL_ASSIGN_OR_RETURN(auto tokenizer, TrainBpe(text, 1024));
//   std::vector<int32_t> ids = tokenizer->Encode("the cat");
//   tokenizer->Decode(ids);   // "the cat"
//   RESIDUAL_RETURN_IF_ERROR(tokenizer->Save(folder));   // Hugging Face's tokenizers opens it
//
// Text is bytes. It is read as UTF-8; bytes that are none count as characters of their own, so with
// a byte-level tokenizer any file serves and every byte survives the round trip. Unicode's classes
// are those of Unicode 15: a character that was assigned later is neither letter nor number.
//
// A tokenizer does not change; any number of threads may use it.

#ifndef RESIDUAL_MODELS_TEXT_TOKENIZER_H_
#define RESIDUAL_MODELS_TEXT_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace residual {

// What stands around a text that a model reads: <s> of Llama, [CLS] and [SEP] of BERT.
struct SpecialTokens {
  std::vector<int32_t> before, after;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Never adds tokens that are not in the text (no BOS). The text of an added token
  // ("<|endoftext|>") becomes that token.
  virtual std::vector<int32_t> Encode(absl::string_view text) const = 0;

  // Those that tokenizer.json puts around a text; none without such a file.
  virtual SpecialTokens special_tokens() const { return {}; }

  // The text with them: what Hugging Face's tokenizer gives a model.
  std::vector<int32_t> EncodeForModel(absl::string_view text) const {
    const SpecialTokens special = special_tokens();
    std::vector<int32_t> ids = Encode(text);
    ids.insert(ids.begin(), special.before.begin(), special.before.end());
    ids.insert(ids.end(), special.after.begin(), special.after.end());
    return ids;
  }

  // The text of the ids, special tokens included. Of a byte-level tokenizer the bytes may be no
  // valid UTF-8: a token can end within a character. Ids without a token have no text.
  virtual std::string Decode(absl::Span<const int32_t> ids) const = 0;

  // One more than the largest id.
  virtual int64_t vocab_size() const = 0;

  // The bytes that one token stands for, wherever it stands; empty for an id without a token.
  virtual std::string TokenText(int32_t id) const = 0;

  // A token that is no text, such as the end of a document.
  virtual bool IsSpecial(int32_t id) const = 0;

  // Writes tokenizer.json, as Hugging Face writes it, into the folder, which must exist;
  // spiece.model if it came from such a file.
  virtual absl::Status Save(const std::string& folder) const = 0;
};

// One token for each byte; its id is the byte.
std::unique_ptr<Tokenizer> MakeByteTokenizer();

// Byte-level byte-pair encoding (Sennrich et al. 2016; Radford et al. 2019) learned from a text:
// the 256 bytes (in GPT-2's order), then a token for each merge until there are vocab_size. Words
// are those of GPT-2's pattern. The merge is always of the most frequent pair; of equals the one
// with the smaller left id, then the smaller right id. Ends sooner if no pair occurs twice, so ask
// vocab_size() how many there are. Equal to Hugging Face's BpeTrainer with min_frequency 2.
// InvalidArgument unless 256 <= vocab_size <= 2^20 and the text has fewer than 2^31 bytes.
absl::StatusOr<std::unique_ptr<Tokenizer>> TrainBpe(absl::string_view text, int64_t vocab_size);

// A folder with tokenizer.json, or else vocab.json and merges.txt (GPT-2), spiece.model or
// tokenizer.model (SentencePiece), or vocab.txt (BERT); or one such file: a .txt, a .model, a
// vocab.json beside its merges.txt, or a tokenizer.json by any name.
// NotFound if there is none; InvalidArgument names the file, the field, what was found and what is
// expected. What we lack (a model, normalizer or pattern) is refused by name, never passed over.
// Truncation and padding are the caller's business.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& folder_or_file);

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_TOKENIZER_H_
