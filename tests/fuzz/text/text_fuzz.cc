// Any bytes as a text: encoded, decoded whole and token by token, and back; some learned from.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "models/text/prepare/unicode.h"
#include "models/text/streaming_decoder.h"
#include "models/text/tokenizer.h"
#include "tensor/base/check.h"

namespace residual {
namespace {

void Run(const Tokenizer& tokenizer, const std::string& text) {
  const std::vector<int32_t> ids = tokenizer.Encode(text);
  RESIDUAL_CHECK(tokenizer.Decode(ids) == text);
  StreamingDecoder decoder(&tokenizer);
  std::string streamed;
  for (const int32_t id : ids) {
    const std::string part = decoder.Add(id);
    RESIDUAL_CHECK(ReplaceInvalid(part) == part);
    streamed += part;
  }
  RESIDUAL_CHECK(streamed + decoder.Finish() == ReplaceInvalid(text));
}

}  // namespace
}  // namespace residual

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using residual::Tokenizer;
  static const auto* learned = new std::unique_ptr<Tokenizer>(
      *residual::TrainBpe("the cat sat on the mat, the cat's mat \xC3\xA9\xC3\xA9", 300));
  const std::string text(reinterpret_cast<const char*>(data), size);
  residual::Run(**learned, text);
  // A control character in front says how many merges to learn from the text itself. Not every
  // time: to make a tokenizer takes twenty times as long as to use it.
  if (size == 0 || data[0] < 32) {
    const int64_t merges = size == 0 ? 0 : 8 * data[0];
    residual::Run(**residual::TrainBpe(text, 256 + merges), text);
  }
  return 0;
}
