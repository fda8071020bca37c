// Text from ids as they come, for printing.

#ifndef RESIDUAL_MODELS_TEXT_STREAMING_DECODER_H_
#define RESIDUAL_MODELS_TEXT_STREAMING_DECODER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "models/text/tokenizer.h"

namespace residual {

// What Add returns is whole characters: bytes that begin one wait for those that end it, and bytes
// that can belong to none become U+FFFD. All of it, with what Finish returns, is
// ReplaceInvalid(tokenizer.Decode(ids)).
class StreamingDecoder {
 public:
  // The tokenizer must outlive the decoder.
  explicit StreamingDecoder(const Tokenizer* tokenizer) : tokenizer_(*tokenizer) {}

  // The text that the id completes; often all of its text, sometimes none.
  std::string Add(int32_t id);

  // What was held back, at the end.
  std::string Finish();

 private:
  const Tokenizer& tokenizer_;
  std::vector<int32_t> last_;  // the ids before, as far as the next one's text can depend on them
  std::string held_back_;      // bytes that begin a character
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_STREAMING_DECODER_H_
