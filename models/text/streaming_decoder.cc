#include "models/text/streaming_decoder.h"

#include <algorithm>

#include "models/text/prepare/unicode.h"

namespace residual {

std::string StreamingDecoder::Add(int32_t id) {
  // The text of a token can depend on there being one before it (a space that is dropped at the
  // start of a text), so it is what Decode says of both, less what it says of the first.
  const size_t before = tokenizer_.Decode(last_).size();
  last_.push_back(id);
  const std::string both = tokenizer_.Decode(last_);
  held_back_ += both.substr(std::min(before, both.size()));
  if (last_.size() > 1) last_.erase(last_.begin());

  const size_t whole = held_back_.size() - CutShortBytes(held_back_);
  std::string text = ReplaceInvalid(held_back_.substr(0, whole));
  held_back_.erase(0, whole);
  return text;
}

std::string StreamingDecoder::Finish() {
  std::string text = ReplaceInvalid(held_back_);
  held_back_.clear();
  last_.clear();
  return text;
}

}  // namespace residual
