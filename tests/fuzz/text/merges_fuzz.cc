// Any bytes as merges.txt beside a vocabulary: refused with the file's name, or a tokenizer that
// gives every text back.
#include <cstdint>
#include <string>

#include "models/text/tokenizer.h"
#include "models/text/tokenizer_json.h"
#include "nlohmann/json.hpp"
#include "tensor/base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto* vocab = [] {
    std::vector<std::string> tokens;
    for (int byte = 0; byte < 256; ++byte)
      tokens.push_back(std::string(1, static_cast<char>(byte)));
    for (const char* token : {"ab", "abc", "aa", "aaa", " a", " the"}) tokens.push_back(token);
    const auto json = nlohmann::json::parse(residual::ByteLevelBpeJson(tokens, {}));
    return new nlohmann::json(json["model"]["vocab"]);
  }();
  const std::string merges(reinterpret_cast<const char*>(data), size);
  const auto tokenizer =
      residual::TokenizerFromVocabAndMerges(*vocab, merges, "vocab.json", "merges.txt");
  if (!tokenizer.ok()) {
    RESIDUAL_CHECK(tokenizer.status().message().find("merges.txt: line ") == 0)
        << tokenizer.status();
    return 0;
  }
  for (const std::string& text : {merges, std::string("aaaabcaab the a")}) {
    RESIDUAL_CHECK((*tokenizer)->Decode((*tokenizer)->Encode(text)) == text);
  }
  return 0;
}
