#include "models/text/streaming_decoder.h"

#include <algorithm>

#include "models/text/prepare/unicode.h"

namespace residual {

std::string StreamingDecoder::Add(int32_t id) {
  const std::string text = tokenizer_.TokenText(id);
  if (text.empty()) return "";  // an id without a token: nothing depends on it
  held_back_.push_back(id);
  bytes_ += text;
  return CutShortBytes(bytes_) > 0 ? "" : Emit();
}

std::string StreamingDecoder::Finish() {
  std::string text = Emit();
  last_.clear();
  return text;
}

std::string StreamingDecoder::Emit() {
  // The text of a token can depend on there being one before it (a space that is dropped at the
  // start of a text), so it is what Decode says with the one before, less what it says of that.
  const size_t before = tokenizer_.Decode(last_).size();
  last_.insert(last_.end(), held_back_.begin(), held_back_.end());
  const std::string all = tokenizer_.Decode(last_);
  if (last_.size() > 1) last_.erase(last_.begin(), last_.end() - 1);
  held_back_.clear();
  bytes_.clear();
  return ReplaceInvalid(all.substr(std::min(before, all.size())));
}

}  // namespace residual
