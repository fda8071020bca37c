// Any bytes as a text for a tokenizer, of the kind that the last byte says: ids of the vocabulary,
// which decode to text, all at once as one by one.
#include <cstdint>
#include <string>
#include <vector>

#include "models/text/prepare/unicode.h"
#include "models/text/streaming_decoder.h"
#include "tensor/base/check.h"
#include "tests/fuzz/text/kinds.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto& kinds = residual::TokenizerKinds();
  const auto& [name, tokenizer] = kinds[size == 0 ? 0 : data[size - 1] % kinds.size()];
  const std::vector<int32_t> ids = tokenizer->Encode(text);
  RESIDUAL_CHECK(ids == tokenizer->Encode(text)) << name;
  residual::StreamingDecoder stream(tokenizer.get());
  std::string streamed;
  for (const int32_t id : ids) {
    RESIDUAL_CHECK(id >= 0 && id < tokenizer->vocab_size()) << name << ": " << id;
    streamed += stream.Add(id);
  }
  streamed += stream.Finish();
  const std::string decoded = residual::ReplaceInvalid(tokenizer->Decode(ids));
  RESIDUAL_CHECK(residual::ReplaceInvalid(streamed) == streamed) << name;
  // Byte tokens that are no characters are replaced run by run, or one by one as they come.
  RESIDUAL_CHECK(streamed == decoded || name == "sentence piece") << name;
  if (name == "bytes") RESIDUAL_CHECK(tokenizer->Decode(ids) == text);
  return 0;
}
