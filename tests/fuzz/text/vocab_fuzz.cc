// Any bytes as vocab.txt and as vocab.json: refused with the file's name, or a tokenizer whose ids
// are within its vocabulary.
#include <cstdint>
#include <memory>
#include <string>

#include "models/checkpoint/config_reader.h"
#include "models/text/tokenizer_json.h"
#include "tensor/base/check.h"

namespace residual {
namespace {

void Use(const absl::StatusOr<std::unique_ptr<Tokenizer>>& tokenizer, const std::string& text,
         const char* file) {
  if (!tokenizer.ok()) {
    RESIDUAL_CHECK(tokenizer.status().message().find(file) == 0) << tokenizer.status();
    return;
  }
  for (const int32_t id : (*tokenizer)->Encode(text)) {
    RESIDUAL_CHECK(id >= 0 && id < (*tokenizer)->vocab_size()) << id;
  }
}

}  // namespace
}  // namespace residual

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  residual::Use(residual::TokenizerFromWordPieceVocabulary(text, {}, "vocab.txt"), text,
                "vocab.txt: ");
  const auto vocab = residual::ParseJsonObject(text, "vocab.json");
  if (vocab.ok()) {
    residual::Use(residual::TokenizerFromVocabAndMerges(*vocab, "", "vocab.json", "merges.txt"),
                  text, "vocab.json: ");
  }
  return 0;
}
