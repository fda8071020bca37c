#include "models/text/prepare/pre_tokenizer.h"

#include "models/text/prepare/unicode.h"

namespace residual {
namespace {

class WholeText : public PreTokenizer {
 public:
  void Split(absl::string_view text,
             absl::FunctionRef<void(absl::string_view)> piece) const override {
    if (!text.empty()) piece(text);
  }
};

// A character's class and length, at `at` < text.size().
struct Classed {
  CharClass char_class;
  int length;
};

Classed At(absl::string_view text, size_t at) {
  const unsigned char byte = static_cast<unsigned char>(text[at]);
  if (byte < 0x80) return {ClassOf(byte), 1};
  const Character c = FirstCharacter(text.substr(at));
  return {ClassOf(c.code_point), c.length};
}

// The length of the contraction at the start of `text`, which begins with an apostrophe; 0: none.
size_t Contraction(absl::string_view text) {
  if (text.size() < 2) return 0;
  switch (text[1]) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return 2;
    case 'r':
    case 'v':
      return text.size() > 2 && text[2] == 'e' ? 3 : 0;
    case 'l':
      return text.size() > 2 && text[2] == 'l' ? 3 : 0;
    default:
      return 0;
  }
}

// Written out by hand: one pass, no backtracking, some fifty times faster than a regular
// expression library.
class Gpt2Pattern : public PreTokenizer {
 public:
  void Split(absl::string_view text,
             absl::FunctionRef<void(absl::string_view)> piece) const override {
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = End(text, begin);
      piece(text.substr(begin, end - begin));
      begin = end;
    }
  }

 private:
  static size_t End(absl::string_view text, size_t begin) {
    if (text[begin] == '\'') {
      if (const size_t length = Contraction(text.substr(begin))) return begin + length;
    }
    Classed first = At(text, begin);
    size_t end = begin + first.length;
    if (text[begin] == ' ' && end < text.size()) {
      const Classed second = At(text, end);
      if (second.char_class != CharClass::kSpace) {  // " ?" takes the space
        first = second;
        end += second.length;
      }
    }
    size_t last = begin;  // where the last character of the run begins
    while (end < text.size()) {
      const Classed next = At(text, end);
      if (next.char_class != first.char_class) {
        // \s+(?!\S): all spaces but the last one, which \s+ or the word takes.
        if (first.char_class == CharClass::kSpace && last > begin) return last;
        break;
      }
      last = end;
      end += next.length;
    }
    return end;
  }
};

}  // namespace

std::unique_ptr<PreTokenizer> MakeWholeText() { return std::make_unique<WholeText>(); }
std::unique_ptr<PreTokenizer> MakeGpt2Pattern() { return std::make_unique<Gpt2Pattern>(); }

}  // namespace residual
