// Any bytes as a tokenizer.json: refused with the file's name, or a tokenizer whose ids are within
// its vocabulary and which, saved as it was, is the same again.
#include <cstdint>
#include <string>

#include "models/text/tokenizer_json.h"
#include "tensor/base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string json(reinterpret_cast<const char*>(data), size);
  const auto tokenizer = residual::TokenizerFromJson(json, "t.json");
  if (!tokenizer.ok()) {
    RESIDUAL_CHECK(tokenizer.status().message().find("t.json") == 0) << tokenizer.status();
    return 0;
  }
  // The description itself is a text with everything that it names.
  for (const std::string& text : {json, std::string("a \xC3\xA9<|x|>  \xFF\n")}) {
    const auto ids = (*tokenizer)->EncodeForModel(text);
    for (const int32_t id : ids) {
      RESIDUAL_CHECK(id >= 0 && id < (*tokenizer)->vocab_size()) << id;
    }
    (*tokenizer)->Decode(ids);
  }
  return 0;
}
