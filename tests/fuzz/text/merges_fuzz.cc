// Any bytes as merges.txt beside a vocabulary: refused with the file's name, or a tokenizer that
// gives every text back.
#include <cstdint>
#include <string>

#include "models/text/tokenizer.h"
#include "models/text/tokenizer_json.h"
#include "nlohmann/json.hpp"
#include "tensor/base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // As vocab.json writes them: the bytes, then some more.
  static const auto* tokens = [] {
    std::vector<std::string> all;
    for (int byte = 0; byte < 256; ++byte) all.push_back(std::string(1, static_cast<char>(byte)));
    for (const char* token : {"ab", "abc", "aa", "aaa", " a", " the"}) all.push_back(token);
    const auto json = nlohmann::json::parse(residual::ByteLevelBpeJson(all, {}));
    auto* written = new std::vector<std::string>(all.size());
    for (const auto& [token, id] : json["model"]["vocab"].items()) (*written)[id] = token;
    return written;
  }();
  const std::string merges(reinterpret_cast<const char*>(data), size);
  // Only the bytes that the texts below need: a small vocabulary is read ten times as fast.
  const std::string sample = "aaaabcaab the a";
  nlohmann::json vocab;
  for (const char c : merges + sample) vocab[(*tokens)[static_cast<uint8_t>(c)]] = 0;
  for (size_t i = 256; i < tokens->size(); ++i) vocab[(*tokens)[i]] = 0;
  int id = 0;
  for (auto& entry : vocab) entry = id++;
  const auto tokenizer =
      residual::TokenizerFromVocabAndMerges(vocab, merges, "vocab.json", "merges.txt");
  if (!tokenizer.ok()) {
    RESIDUAL_CHECK(tokenizer.status().message().find("merges.txt: line ") == 0)
        << tokenizer.status();
    return 0;
  }
  for (const std::string& text : {merges, sample}) {
    RESIDUAL_CHECK((*tokenizer)->Decode((*tokenizer)->Encode(text)) == text);
  }
  return 0;
}
