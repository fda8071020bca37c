// Any bytes as ids for a tokenizer, of the kind that the last byte says, ids without a token
// included: text, whole characters when it comes one by one.
#include <cstdint>
#include <string>
#include <vector>

#include "models/text/prepare/unicode.h"
#include "models/text/streaming_decoder.h"
#include "tensor/base/check.h"
#include "tests/fuzz/text/kinds.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto& kinds = residual::TokenizerKinds();
  const auto& [name, tokenizer] = kinds[size == 0 ? 0 : data[size - 1] % kinds.size()];
  std::vector<int32_t> ids;
  for (size_t i = 0; i + 2 < size && ids.size() < 512; i += 2) {
    const int32_t number = data[i] | data[i + 1] << 8;
    // A few are far outside, or just.
    ids.push_back(number % 8 == 7 ? static_cast<int32_t>(0x80000000U >> (number / 8 % 32))
                                  : number % (static_cast<int32_t>(tokenizer->vocab_size()) + 2));
  }
  residual::StreamingDecoder stream(tokenizer.get());
  std::string streamed;
  for (const int32_t id : ids) {
    const std::string part = stream.Add(id);
    RESIDUAL_CHECK(residual::ReplaceInvalid(part) == part) << name;
    streamed += part;
    tokenizer->TokenText(id);
    tokenizer->IsSpecial(id);
  }
  streamed += stream.Finish();
  const std::string decoded = residual::ReplaceInvalid(tokenizer->Decode(ids));
  RESIDUAL_CHECK(streamed == decoded || name == "sentence piece") << name;
  return 0;
}
