// Text from ids as they come, for printing.

#ifndef RESIDUAL_MODELS_TEXT_STREAMING_DECODER_H_
#define RESIDUAL_MODELS_TEXT_STREAMING_DECODER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "models/text/tokenizer.h"

namespace residual {

// What Add returns is whole characters: tokens whose bytes end within one wait for those that
// complete it, and bytes that can belong to none become U+FFFD. All of it, with what Finish
// returns, is ReplaceInvalid(tokenizer.Decode(ids)); but where byte tokens ("<0xE2>") of a
// character are followed by others that belong to none, Decode replaces them all.
class StreamingDecoder {
 public:
  // The tokenizer must outlive the decoder.
  explicit StreamingDecoder(const Tokenizer* tokenizer) : tokenizer_(*tokenizer) {}

  // The text that the id completes; often all of its text, sometimes none.
  std::string Add(int32_t id);

  // What was held back, at the end.
  std::string Finish();

 private:
  std::string Emit();

  const Tokenizer& tokenizer_;
  std::vector<int32_t> last_;       // the id before: what follows can depend on there being one
  std::vector<int32_t> held_back_;  // the ids that wait
  std::string bytes_;               // their bytes
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_STREAMING_DECODER_H_
