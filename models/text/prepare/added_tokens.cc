#include "models/text/prepare/added_tokens.h"

#include <algorithm>

#include "models/text/prepare/unicode.h"

namespace residual {
namespace {

// Where the last character of `text` begins.
size_t LastCharacter(absl::string_view text) {
  size_t begin = text.size() - 1;
  for (int i = 0; i < 3 && begin > 0 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80; ++i) {
    --begin;
  }
  const Character c = FirstCharacter(text.substr(begin));
  return begin + c.length == text.size() ? begin : text.size() - 1;
}

bool EndsWithWord(absl::string_view text) {
  return !text.empty() &&
         IsWordCharacter(FirstCharacter(text.substr(LastCharacter(text))).code_point);
}

bool BeginsWithWord(absl::string_view text) {
  return !text.empty() && IsWordCharacter(FirstCharacter(text).code_point);
}

// Where the white space at the end of `text` begins.
size_t TrailingSpace(absl::string_view text) {
  while (!text.empty()) {
    const size_t last = LastCharacter(text);
    if (ClassOf(FirstCharacter(text.substr(last)).code_point) != CharClass::kSpace) break;
    text = text.substr(0, last);
  }
  return text.size();
}

// How many bytes of white space `text` begins with.
size_t LeadingSpace(absl::string_view text) {
  size_t n = 0;
  while (n < text.size()) {
    const Character c = FirstCharacter(text.substr(n));
    if (ClassOf(c.code_point) != CharClass::kSpace) break;
    n += c.length;
  }
  return n;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(const std::vector<AddedToken>& tokens) : tokens_(tokens) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    trie_.Add(tokens_[i].content, static_cast<int32_t>(i));
  }
}

const AddedToken* AddedTokenFinder::LongestAt(absl::string_view text, size_t begin) const {
  const AddedToken* longest = nullptr;
  trie_.ForEachPrefix(text.substr(begin), [&](size_t, int32_t i) { longest = &tokens_[i]; });
  return longest;
}

void AddedTokenFinder::Split(
    absl::string_view text,
    absl::FunctionRef<void(absl::string_view, std::optional<int32_t>)> part) const {
  size_t done = 0;  // everything before has been given to `part`
  for (size_t i = 0; i < text.size() && !tokens_.empty();) {
    const AddedToken* token = LongestAt(text, i);
    if (token == nullptr) {
      ++i;
      continue;
    }
    size_t begin = i, end = i + token->content.size();
    i = end;  // a token passed over for its neighbours is not looked into
    if (token->single_word &&
        (EndsWithWord(text.substr(0, begin)) || BeginsWithWord(text.substr(end)))) {
      continue;
    }
    if (token->left_strip) begin = TrailingSpace(text.substr(0, begin));
    if (token->right_strip) end += LeadingSpace(text.substr(end));
    if (end <= done) continue;  // within the space that the token before it took
    begin = std::max(begin, done);
    if (begin > done) part(text.substr(done, begin - done), std::nullopt);
    part(text.substr(begin, end - begin), token->id);
    done = end;
  }
  if (done < text.size()) part(text.substr(done), std::nullopt);
}

}  // namespace residual
